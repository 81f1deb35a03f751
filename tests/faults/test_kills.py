"""Ten kills of every tool at drawn moments; ``tests/stress/kills.py`` tries fifty."""

import pytest

from tests.faults.trials import KILLS, KILLS_OF_PREPARE, draw, kill_and_recover
from tests.faults.workloads import UNFINISHED

pytestmark = pytest.mark.e2e
TOOLS = ("prepare", "train", "test", "ensemble", "report")


@pytest.mark.parametrize("number", range(10))
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
