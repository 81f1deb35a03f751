"""Every tool killed six times, on a full and a broken disk, stopped; ``tests/stress/kills.py`` tries more of each."""

import itertools

import pytest

from tests.faults.trials import KILLS, KILLS_OF_PREPARE, STOPS, Fault, draw, kill_and_recover
from tests.faults.workloads import UNFINISHED

TOOLS = ("prepare", "train", "test", "ensemble", "report")


@pytest.mark.parametrize("number", range(6))  # two of each kind
@pytest.mark.parametrize("tool", TOOLS)
def test_killed_and_run_again_it_ends_as_an_undisturbed_run(bench, tmp_path, tool, number):
    kinds = KILLS_OF_PREPARE if tool == "prepare" else KILLS
    (outcome,) = kill_and_recover(bench, tool, draw([kinds[number % len(kinds)]], seed=number), tmp_path)
    assert not outcome.problem, outcome
    assert outcome.hit


def test_the_comparison_sees_a_half_written_result(bench, tmp_path):
    """The tests above pass for what is not compared, too: so break a result of every kind, and see."""
    for tool, name in (("train", "epoch_3.pth"), ("prepare", "prepared.json"), ("report", "report.html")):
        job, calm = bench.workloads[tool], bench.undisturbed[tool]
        source = next(bench.folder.glob(f"{tool}/{name}"))
        (tmp_path / name).write_bytes(source.read_bytes())
        assert job.results(tmp_path) == {name: calm.results[name]}
        (tmp_path / name).write_bytes(source.read_bytes()[:-100])
        if name.endswith(".pth"):
            with pytest.raises(RuntimeError, match="zip"):
                job.results(tmp_path)
        else:
            assert job.results(tmp_path) != {name: calm.results[name]}
        (tmp_path / name).unlink()
    for ending in UNFINISHED:
        (tmp_path / f"x.json{ending}").write_bytes(b"{")
    assert bench.workloads["test"].results(tmp_path) == {}


@pytest.mark.usefixtures("_mounts")
@pytest.mark.parametrize("tool", TOOLS)
def test_a_full_disk_is_one_line_and_nothing_is_lost(bench, tmp_path, tool):
    (outcome,) = kill_and_recover(bench, tool, [Fault("full disk", 0.6)], tmp_path)
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
def test_a_stopped_tool_says_how_to_resume(bench, tmp_path, tool, stop):
    (outcome,) = kill_and_recover(bench, tool, [Fault(stop, 0.25)], tmp_path)
    assert not outcome.problem, outcome
    assert outcome.hit
