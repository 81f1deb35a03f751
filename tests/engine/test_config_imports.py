"""Modules of a user's own, named by ``custom_imports``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmdet.registry import TRANSFORMS

from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError
from covidmm.utils.config_modules import VARIABLE

BASE = Path("configs/phantom/frcnn_r18_phantom.py").resolve()
MODULE = """
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
@TRANSFORMS.register_module()
class {name}(BaseTransform):
    def transform(self, results):
        return results
"""


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    path, modules = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    for name in {name for name in sys.modules if name.startswith("own_")} - modules:
        del sys.modules[name]


def config(folder: Path, module: str, step: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [f"_base_ = '{BASE}'", f"custom_imports = dict(imports=['{module}'], allow_failed_imports=False)"]
    if step:
        lines += [
            f"train_pipeline = [*_base_.train_pipeline, dict(type='{step}')]",
            "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))",
        ]
    (folder / "mine.py").write_text("\n".join(lines))
    return folder / "mine.py"


def test_a_module_beside_the_config_is_enough(tmp_path):
    """covidmm's plugins come along, a helper of the module is found, and a spawned worker finds both."""
    path = config(tmp_path, "own_steps", "OwnStep")
    (tmp_path / "own_steps.py").write_text(f"import own_helper\n{MODULE.format(name='OwnStep')}")
    (tmp_path / "own_helper.py").write_text("")
    try:
        cfg = load_config(path)
    finally:
        TRANSFORMS.module_dict.pop("OwnStep", None)
    assert cfg.custom_imports["imports"] == ["covidmm.registration", "own_steps"]
    assert cfg.train_dataloader.dataset.pipeline[-1].type == "OwnStep"
    code = "import covidmm, own_helper"
    environment = os.environ | {"PYTHONPATH": str(BASE.parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd="/", capture_output=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no module named 'own_lost', neither in \S+ nor on PYTHONPATH"),
        ("import no_such_package", "'own_lost' needs the module 'no_such_package', which is not installed"),
        ("from os import nothing", "'own_lost' fails as it is imported: ImportError: cannot import name 'nothing'"),
        ("x = (", "'own_lost' fails as it is imported: SyntaxError: "),
        ("1 / 0", "'own_lost' fails as it is imported: ZeroDivisionError: division by zero"),
    ],
)
def test_the_module_that_failed_is_named(tmp_path, content, message):
    path = config(tmp_path, "own_lost")
    if content:
        (tmp_path / "own_lost.py").write_text(content)
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_module_of_another_config_does_not_pass_for_this_one(tmp_path):
    first, second, without = (config(tmp_path / name, "own_twice") for name in "abc")
    for name in "ab":
        (tmp_path / name / "own_twice.py").write_text("")
    load_config(first)
    load_config(first)
    with pytest.raises(ConfigError, match=r"'own_twice' is in .*b, but another .* from .*a; rename one"):
        load_config(second)
    with pytest.raises(ConfigError, match="no module named 'own_twice' here"):
        load_config(without)


def test_an_ensemble_imports_too(tmp_path):
    (tmp_path / "own_option.py").write_text("")
    path = tmp_path / "ensemble.py"
    path.write_text(
        f"_base_ = '{BASE.parent / 'ensemble_wbf_phantom.py'}'\ncustom_imports = dict(imports='own_option')"
    )
    load_ensemble(path)
    assert "own_option" in sys.modules


@pytest.mark.parametrize("value", ["3", "dict(imports=[3])", "['own_module']"])
def test_custom_imports_of_another_kind_are_refused(tmp_path, value):
    (tmp_path / "mine.py").write_text(f"custom_imports = {value}")
    with pytest.raises(ConfigError, match=r"custom_imports.* must be a "):
        load_config(tmp_path / "mine.py")
