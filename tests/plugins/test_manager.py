import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

from covidmm.errors import PluginError
from covidmm.findings import Detections
from covidmm.plugins import PluginManager, hookimpl

EXAMPLE = Path(__file__).parents[1] / "packages" / "covidmm_example"


class First:
    def __init__(self, index: int = 0) -> None:
        if index < 0:
            raise ValueError("index must not be negative")
        self.index = index

    def fuse(self, members, weights, size):
        return members[self.index]


def plugin(name="tiny", strategies=None, classifiers=None):
    module = types.ModuleType(name)
    if strategies is not None:
        module.covidmm_ensemble_strategies = hookimpl(lambda: strategies, specname="covidmm_ensemble_strategies")
    if classifiers is not None:
        module.covidmm_study_classifiers = hookimpl(lambda: classifiers, specname="covidmm_study_classifiers")
    return module


def manager(*plugins):
    return PluginManager(plugins, installed=False)


def test_a_strategy_is_built_by_name_with_its_arguments():
    strategy = manager(plugin(strategies={"first": First})).build_strategy({"type": "first", "index": 1})
    members = [Detections([[0, 0, 1, 1]], [0.5]), Detections([[2, 2, 3, 3]], [0.25])]
    assert strategy.fuse(members, [1, 1], (4, 4)).boxes.tolist() == [[2, 2, 3, 3]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "frist"}, r"unknown ensemble strategy 'frist': did you mean 'first'\?; there are: first, last"),
        ({"type": "nothing_like_it"}, "unknown ensemble strategy 'nothing_like_it'; there are: first, last"),
        ({}, "unknown ensemble strategy 'None'; there are: first, last"),
        ({"type": "first", "indx": 1}, r"'first' has no argument 'indx': did you mean 'index'\?; it has: index"),
        ({"type": "first", "index": -1}, "'first': index must not be negative"),
        ({"type": "last"}, "'last': list is no EnsembleStrategy"),
    ],
)
def test_what_cannot_be_built_says_what_there_is(config, message):
    plugins = manager(plugin(strategies={"first": First, "last": lambda: []}))
    with pytest.raises(PluginError, match=message):
        plugins.build_strategy(config)


def test_study_classifiers_have_names_of_their_own():
    class Certain:
        def classify(self, study):
            return np.array([1, 0, 0, 0], np.float32)

    plugins = manager(plugin(strategies={"first": First}, classifiers={"first": Certain}))
    assert isinstance(plugins.build_study_classifier({"type": "first"}), Certain)
    with pytest.raises(PluginError, match="unknown study classifier 'wbf'"):
        plugins.build_study_classifier({"type": "wbf"})


def test_two_plugins_with_one_name_are_both_named():
    with pytest.raises(PluginError, match=r"plugins '[ab]' and '[ab]' both have a 'first'"):
        manager(plugin("a", strategies={"first": First}), plugin("b", strategies={"first": First}))


def test_a_misspelt_hook_is_an_error():
    module = types.ModuleType("wrong")
    module.covidmm_ensemble_strategy = hookimpl(lambda: {}, specname="covidmm_ensemble_strategy")
    with pytest.raises(PluginError, match="covidmm_ensemble_strategy"):
        manager(module)


@pytest.mark.parametrize("answer", [None, [First], {"first": 3}, {1: First}])
def test_an_answer_of_another_kind_is_an_error(answer):
    module = types.ModuleType("odd")
    module.covidmm_ensemble_strategies = hookimpl(lambda: answer, specname="covidmm_ensemble_strategies")
    with pytest.raises(PluginError, match="'odd': covidmm_ensemble_strategies must return a dict"):
        manager(module)


def test_no_manager_exists_before_one_is_made():
    code = (
        "import covidmm.plugins.manager as m; assert not any(isinstance(v, m.PluginManager) for v in vars(m).values())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, really installed, into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run(code, site):
    environment = {**os.environ, "PYTHONPATH": f"{site}:{Path(__file__).parents[2]}"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )


def test_an_installed_package_is_found_by_its_entry_point_and_used(installed):
    result = run(
        """
        from covidmm.findings import Detections, Study
        from covidmm.plugins import PluginManager
        plugins = PluginManager()
        fused = plugins.build_strategy(dict(type="confident", threshold=0.4)).fuse(
            [Detections([[0, 0, 2, 2]], [0.9]), Detections([[1, 1, 3, 3]], [0.3])], [1, 1], (8, 8))
        assert fused.boxes.tolist() == [[0, 0, 2, 2]], fused
        study = Study("s", [], [])
        assert plugins.build_study_classifier(dict(type="boxed")).classify(study).tolist() == [1, 0, 0, 0]
        """,
        installed,
    )
    assert result.returncode == 0, result.stderr


def test_an_installed_package_that_cannot_be_imported_is_named(tmp_path):
    broken = tmp_path / "broken_plugin-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[covidmm]\nbroken = broken_plugin_module\n")
    result = run("from covidmm.plugins import PluginManager; PluginManager()", tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert "PluginError: plugin 'broken' of broken-plugin: ModuleNotFoundError" in last
