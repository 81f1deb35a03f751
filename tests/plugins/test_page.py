"""docs/plugins.md, step by step."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import covidmm.ensembles
from covidmm.plugins import PluginManager

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/plugins.md").read_text()
#: "Put ... into `FILE`:" and the block below it.
FILES = dict(re.findall(r"[Pp]ut (?:it|this) into\s+`(\S+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))

USE = """
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import PluginError
from covidmm.findings import Detections
from covidmm.plugins import PluginManager
import covidmm.ensembles, covidmm_agreement

config = load_ensemble("configs/ensemble_agreement_siim.py")
plugins = PluginManager([covidmm.ensembles])
strategy = plugins.build_strategy(config.strategy)
assert (strategy.least, strategy.iou_thr) == (2, 0.4)
members = [
    Detections([[0, 0, 10, 10], [40, 40, 50, 50]], [0.9, 0.8]),
    Detections([[0, 0, 10, 9]], [0.7]),
    Detections([], []),
]
fused = strategy.fuse(members, [1, 1, 1], (64, 64))
assert fused.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9]], fused
assert len(strategy.fuse(members[2:], [1], (64, 64))) == 0
try:
    plugins.build_strategy(dict(type="agreement", lest=2))
except PluginError as error:
    print(error)
"""


def test_the_page_says_where_its_blocks_go():
    assert list(FILES) == [
        "covidmm_agreement/covidmm_agreement.py",
        "covidmm_agreement/pyproject.toml",
        "configs/ensemble_agreement_siim.py",
    ]
    lines = [line for line in FILES["covidmm_agreement/covidmm_agreement.py"].splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with what the page adds, and its package installed into ``site``."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "configs").mkdir()
    for path in (ROOT / "configs").iterdir():
        (folder / "configs" / path.name).symlink_to(path)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (command,) = re.findall(r"`(pip install [^`]+)`", PAGE)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    words = [sys.executable, "-m", *command.split(), *offline, "--target", str(folder / "site")]
    subprocess.run(words, check=True, capture_output=True, cwd=folder)
    return folder


def test_the_plugin_of_the_page_is_installed_chosen_and_used(folder):
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'site'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in PAGE
    assert done.stdout.startswith("ensemble strategy 'agreement' has no argument 'lest'")


def test_the_table_has_every_built_in_strategy_with_its_defaults():
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", PAGE, re.MULTILINE)
    factories = PluginManager([covidmm.ensembles], installed=False).strategies
    assert sorted(name for name, _ in rows) == sorted(factories)
    for name, arguments in rows:
        parameters = inspect.signature(factories[name]).parameters.values()
        shown = [p.name if p.default is p.empty else f"{p.name}={json.dumps(p.default)}" for p in parameters]
        assert arguments == ", ".join(shown).replace("null", "None"), name
