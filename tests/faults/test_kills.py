"""Ten kills at drawn moments; ``tests/faults/long.py`` tries fifty for every tool."""

import pytest

from tests.faults.trials import draw, kill_and_recover
from tests.faults.workloads import UNFINISHED

pytestmark = pytest.mark.e2e
# two for every tool, every way to be killed for some
TEN = [
    ("prepare", "kill at a time"),
    ("prepare", "kill at a change"),
    ("train", "kill at a time"),
    ("train", "kill in a write"),
    ("test", "kill at a change"),
    ("test", "kill in a write"),
    ("ensemble", "kill at a time"),
    ("ensemble", "kill at a change"),
    ("report", "kill at a change"),
    ("report", "kill in a write"),
]


@pytest.mark.parametrize(("number", "tool", "kind"), [(number, *one) for number, one in enumerate(TEN)])
def test_killed_and_run_again_it_ends_as_an_undisturbed_run(bench, tmp_path, number, tool, kind):
    (outcome,) = kill_and_recover(bench, tool, draw([kind], seed=number), tmp_path)
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
