"""Strategies and classifiers that are not packaged: beside a config, or in any module."""

import os
import sys
from pathlib import Path

import pytest

import covidmm.ensembles
import covidmm.studies
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError, PluginError
from covidmm.findings import Detections
from covidmm.plugins import PluginManager
from covidmm.utils import config_modules

BASE = Path(__file__).parents[2] / "configs/small/ensemble_wbf_siim.py"
MODULE = """
from covidmm.findings import Detections
from covidmm.plugins import hookimpl


class {name}:
    def __init__(self, least=0.5):
        if least > 1:
            raise ValueError(f"least must be at most 1, not {{least}}")
        self.least = least

    def fuse(self, members, weights, size):
        found = Detections.joined(members)
        return Detections(found.boxes[found.scores >= self.least], found.scores[found.scores >= self.least])


class Half:
    classes = ("ill", "well")

    def classify(self, study):
        return [0.5, 0.5]


@hookimpl
def covidmm_ensemble_strategies():
    return {{"{word}": {name}}}
"""


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch):
    """The modules that a config's folder gave are known to the process and its children."""
    monkeypatch.setenv(config_modules.VARIABLE, os.environ.get(config_modules.VARIABLE, "{}"))


def config(folder, text, module):
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(MODULE.format(name="Sure", word=module))
    path = folder / "own.py"
    path.write_text(f"_base_ = {str(BASE)!r}\n{text}\n")
    return load_ensemble(path)


def manager():
    return PluginManager([covidmm.ensembles, covidmm.studies], installed=False)


@pytest.mark.parametrize("place", ["{}:Sure", "{}.Sure"])
def test_a_strategy_beside_the_config_needs_no_package(tmp_path, place):
    module = "beside_a" if ":" in place else "beside_b"
    found = config(tmp_path, f"strategy = dict(_delete_=True, type={place.format(module)!r}, least=0.7)", module)
    strategy = found.build_strategy(manager())
    one = Detections([[0, 0, 9, 9], [1, 1, 5, 5]], [0.6, 0.9])
    assert strategy.fuse([one], [1], (10, 10)).scores.tolist() == pytest.approx([0.9])
    assert found.strategy["type"] == place.format(module)


def test_a_classifier_beside_the_config_says_its_classes(tmp_path):
    found = config(tmp_path, "study = dict(_delete_=True, type='beside_study:Half')", "beside_study")
    assert found.build_classifier(manager(), ("opacity",)).classes == ("ill", "well")
    nested = "study = dict(_delete_=True, type='ensemble', members=[dict(type='beside_nested:Half')])"
    found = config(tmp_path / "other", nested, "beside_nested")
    assert found.build_classifier(manager(), ("opacity",)).classify(None).tolist() == [0.5, 0.5]


def test_hooks_of_imported_modules_count(tmp_path):
    text = "custom_imports = dict(imports=['with_hooks'])\nstrategy = dict(_delete_=True, type='with_hooks')"
    found = config(tmp_path, text, "with_hooks")
    plugins = manager()
    assert type(found.build_strategy(plugins)).__name__ == "Sure"
    assert type(found.build_strategy(plugins)).__name__ == "Sure"  # a second time changes nothing
    assert "with_hooks" not in manager().strategies


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("type='absent:Sure'", ConfigError, r"own\.py: type: no module named 'absent', neither in"),
        (
            "type='local_one:Shure'",
            PluginError,
            r"'local_one:Shure': local_one has no class or function 'Shure': did you",
        ),
        ("type='local_one:Sure', lest=1", PluginError, r"has no argument 'lest': did you mean 'least'"),
        ("type='local_one:Sure', least=3", PluginError, r"'local_one:Sure': least must be at most 1, not 3"),
        ("type='local_one:Half'", PluginError, r"'local_one:Half': Half is no EnsembleStrategy"),
        ("type='numpy:ndarray'", PluginError, r"'numpy:ndarray'"),
        ("type='local_one:__doc__'", PluginError, r"has no class or function '__doc__'"),
    ],
)
def test_what_cannot_be_taken_is_one_line(tmp_path, monkeypatch, text, error, message):
    monkeypatch.delitem(sys.modules, "local_one", raising=False)
    monkeypatch.delenv(config_modules.VARIABLE, raising=False)
    with pytest.raises(error, match=message) as raised:
        config(tmp_path, f"strategy = dict(_delete_=True, {text})", "local_one").build_strategy(manager())
    assert "\n" not in str(raised.value)


def test_what_is_imported_leaves_the_hash_of_a_config(tmp_path):
    found = config(tmp_path, "custom_imports = dict(imports=['for_the_hash'])", "for_the_hash")
    assert found.modules == ("for_the_hash",)
    assert found.sha256 == load_ensemble(BASE).sha256
