from pathlib import Path

import platformdirs
import pytest

from covidmm.models.checkpoints import checkpoint_store
from covidmm.utils.projects import found_above, project_folder, store_folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a folder in it that is the working directory."""
    inner = tmp_path / "my project/notebooks"
    inner.mkdir(parents=True)
    (inner.parent / "pyproject.toml").touch()
    monkeypatch.chdir(inner)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    monkeypatch.delenv("COVIDMM_CHECKPOINTS", raising=False)
    return inner.parent


def test_every_folder_of_a_project_has_one_store(project, tmp_path, monkeypatch):
    assert project_folder() == project
    assert store_folder() == tmp_path / "cache/checkpoints"
    (project / "checkpoints").mkdir()
    assert checkpoint_store() == project / "checkpoints"
    (project / "notebooks/checkpoints").mkdir()
    assert checkpoint_store() == Path("checkpoints")
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", "~/weights")
    assert checkpoint_store() == Path.home() / "weights"


def test_a_folder_above_the_project_is_none_of_its(project, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "data").mkdir()
    assert store_folder() == tmp_path / "cache/checkpoints"
    assert found_above("data", project / "configs/own.py") is None


def test_a_path_is_looked_for_above_the_config_where_the_working_directory_lacks_it(project):
    config = project / "configs/deep/own.py"
    config.parent.mkdir(parents=True)
    (project / "data/siim").mkdir(parents=True)
    assert found_above("data/siim", config) == project / "data/siim"
    (project / "configs/data/siim").mkdir(parents=True)
    assert found_above("data/siim", config) == project / "configs/data/siim"
    assert found_above("data/rsna", config) is None
    assert found_above(str(project / "data/siim"), config) is None
    (project / "notebooks/data/siim").mkdir(parents=True)
    assert found_above("data/siim", config) is None
