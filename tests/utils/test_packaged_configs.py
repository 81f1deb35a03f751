import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from covidmm.engine.config import load_config
from covidmm.errors import ConfigError
from covidmm.utils import packaged_configs
from covidmm.utils.packaged_configs import config_folders, config_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """An installed package with configs of its own, one of which inherits covidmm's."""
    folder = tmp_path / "hospital/configs/deep er"
    folder.mkdir(parents=True)
    for one in (folder.parents[1], folder.parent):
        (one / "__init__.py").touch()
    (folder / "ward.py").write_text('_base_ = "covidmm::small/frcnn_r18_siim.py"\ntrain_cfg = dict(max_epochs=3)\n')
    points = EntryPoints([EntryPoint("hospital", "hospital.configs", packaged_configs.GROUP)])
    monkeypatch.setattr(packaged_configs, "entry_points", lambda group: points.select(group=group))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["covidmm::small/frcnn_r18_siim.py", "covidmm::small/frcnn_r18_siim"])
def test_a_config_of_covidmm_is_found_by_its_name(name):
    assert config_path(name) == ROOT / "configs/small/frcnn_r18_siim.py"
    assert load_config(name).model.type == "FasterRCNN"
    assert Config.fromfile(name).filename == str(ROOT / "configs/small/frcnn_r18_siim.py")


def test_mmengine_learns_it_from_the_import_of_covidmm_alone(tmp_path):
    (tmp_path / "own.py").write_text('_base_ = ["covidmm::frcnn_x101_siim.py"]\n')
    code = "import {}\nfrom mmengine.config import Config\nprint(Config.fromfile('own.py').model.backbone.depth)"
    for order in ("covidmm", "mmengine.config, covidmm"):
        command = [sys.executable, "-W", "ignore", "-c", code.format(order)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.stdout.strip().splitlines()[-1:] == ["101"], ended.stderr


def test_names_of_a_third_package_and_of_mmdetection_are_found(hospital):
    cfg = load_config("hospital::deep er/ward.py")
    assert (cfg.train_cfg.max_epochs, cfg.model.type) == (3, "FasterRCNN")
    own = hospital / "own.py"
    own.write_text('_base_ = "hospital::deep er/ward.py"\n')
    assert load_config(own).train_cfg.max_epochs == 3
    own.write_text('_base_ = "mmdet::tood/tood_r50_fpn_1x_coco.py"\n')
    assert Config.fromfile(str(own)).model.type == "TOOD"
    assert config_path("mmdet::tood/tood_r50_fpn_1x_coco.py").is_file()
    assert list(config_folders()) == ["covidmm", "hospital"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("covidmm::small/frcnn_r17_siim.py", r"covidmm has no such config: did you mean 'small/frcnn_r18_siim.py'\?"),
        ("covidm::small/x.py", r"no installed package 'covidm' with configs: did you mean 'covidmm'\?"),
        ("no-name::x.py", "no installed package 'no-name' with configs"),
        ("::x.py", "no installed package ''"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_config(name)
    (tmp_path / "own.py").write_text(f'_base_ = "{name}"\n')
    with pytest.raises(ConfigError, match=r"own\.py: ") as error:
        load_config(tmp_path / "own.py")
    assert "\n" not in str(error.value)


def test_an_entry_point_without_its_package_is_named(monkeypatch):
    points = EntryPoints([EntryPoint("ghost", "ghost_configs", packaged_configs.GROUP)])
    monkeypatch.setattr(packaged_configs, "entry_points", lambda group: points)
    with pytest.raises(ConfigError, match=r"entry point ghost of covidmm\.configs: no package named 'ghost_configs'"):
        config_folders()


def test_the_model_index_lists_every_config_of_a_model():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    rows, collections = [], set()
    for path in index["Import"]:
        content = yaml.safe_load((ROOT / path).read_text())
        rows += content["Models"]
        collections |= {one["Name"] for one in content.get("Collections", ())}
    paths = [path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    models = {path.relative_to(ROOT).as_posix() for path in paths if not path.name.startswith("ensemble_")}
    assert {row["Config"] for row in rows} == models
    assert len({row["Name"] for row in rows}) == len(rows)
    assert all(Path(row["Config"]).stem == row["Name"] for row in rows)
    assert {row["In Collection"] for row in rows} == collections
