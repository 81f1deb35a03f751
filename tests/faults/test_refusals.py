"""A full disk, a broken one and a signal in every tool; ``tests/stress/kills.py`` tries more of each."""

import itertools

import pytest

from tests.faults.trials import STOPS, Fault, draw, kill_and_recover

pytestmark = pytest.mark.e2e
TOOLS = ("prepare", "train", "test", "ensemble", "report")


def shares(share):
    return [pytest.param(tool, share, id=tool) for tool in TOOLS]


@pytest.mark.usefixtures("_mounts")
@pytest.mark.parametrize(("tool", "share"), shares(0.6))
def test_a_full_disk_is_one_line_and_nothing_is_lost(bench, tmp_path, tool, share):
    (outcome,) = kill_and_recover(bench, tool, [Fault("full disk", share)], tmp_path)
    assert not outcome.problem, outcome
    assert outcome.hit
    assert outcome.said.startswith(f"error: {tmp_path}")


@pytest.mark.parametrize(
    ("number", "tool", "kind"),
    list(zip(itertools.count(), TOOLS, itertools.cycle(("broken disk", "file too large")), strict=False)),
)
def test_a_write_error_is_one_line_and_nothing_is_lost(bench, tmp_path, number, tool, kind):
    (outcome,) = kill_and_recover(bench, tool, draw([kind], seed=number), tmp_path)
    assert not outcome.problem, outcome
    assert outcome.hit
    assert outcome.said.startswith(f"error: {tmp_path}")


@pytest.mark.parametrize(("tool", "stop"), list(zip(TOOLS, itertools.cycle(STOPS), strict=False)))
def test_a_stopped_tool_says_how_to_go_on(bench, tmp_path, tool, stop):
    (outcome,) = kill_and_recover(bench, tool, [Fault(stop, 0.25)], tmp_path)
    assert not outcome.problem, outcome
    assert outcome.hit
