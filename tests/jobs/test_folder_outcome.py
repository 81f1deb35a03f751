import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import PluginError
from covidmm.jobs.folder_outcome import Outcome, run_folder
from covidmm.jobs.fusion import ENSEMBLE
from covidmm.jobs.prediction import FolderRun
from covidmm.plugins import PluginManager


def test_an_unknown_strategy_costs_no_prediction(random_ensemble, tmp_path):
    run = FolderRun(load_ensemble(random_ensemble.config), read_image_folder(random_ensemble.prepared), tmp_path)
    with pytest.raises(PluginError, match="unknown ensemble strategy 'wbf'; there are: none"):
        run_folder(run, PluginManager(installed=False))
    assert not list(tmp_path.iterdir())


def test_the_ensemble_stands_behind_its_members():
    assert list(Outcome(None, {"a": 1, "b": 2}, 3, None).detectors) == ["a", "b", ENSEMBLE]
