import hashlib
import json

import pytest

from covidmm.reports.runs import find_runs, read_json


def test_a_training_and_an_ensemble_are_recognised_by_their_files(world):
    found = find_runs([world.run, world.ensemble])
    (run,), (fused,) = found.runs, found.fused
    assert (run.name, len(run.train), len(run.val)) == ("frcnn", 12, 4)
    assert run.results["frcnn"]["threshold"] == 0.5
    assert run.predictions == world.run / "predictions.json"
    assert fused.name == "ensemble/test"
    assert fused.thresholds == {"frcnn": 0.5, "yolo": 0.5, "ensemble": 0.5}
    assert found.remarks == []


def test_a_folder_of_runs_is_searched_one_level_down(world):
    found = find_runs([world.work])
    assert [one.name for one in (*found.runs, *found.fused)] == ["frcnn", "ensemble/test"]


def test_what_is_no_run_is_told_in_one_line(world, tmp_path):
    (tmp_path / "empty").mkdir()
    found = find_runs([tmp_path / "empty", tmp_path / "none", world.data])
    assert not found
    assert [line.split(":")[1][:8] for line in found.remarks] == [" nothing", " no such", " nothing"]


def test_half_a_line_of_a_run_that_is_going_on_does_not_hurt(world):
    whole = world.scalars.read_text()
    world.scalars.write_text(whole[: len(whole) - 30])
    (run,) = find_runs([world.run]).runs
    assert (len(run.train), len(run.val)) == (12, 3)
    world.scalars.write_text("")
    assert find_runs([world.run]).runs[0].train == []


@pytest.mark.parametrize(("first", "steps", "epochs"), [(3, 12, 4), (1, 3, 1)], ids=["resumed", "begun anew"])
def test_a_later_training_goes_on_or_begins_anew(world, first, steps, epochs):
    later = world.run / "20260102_000000" / "vis_data" / "scalars.json"
    later.parent.mkdir(parents=True)
    begin = (first - 1) * 3
    own = [{"lr": 7.0, "loss": 1.0, "epoch": first, "step": begin + k} for k in (1, 2, 3)]
    own += [{"lr": 7.0, "loss": 1.0, "epoch": 4, "step": 9 + k} for k in (1, 2, 3)] if first == 3 else []
    own.append({"detection/mAP_50": 0.9, "step": first})
    own += [{"detection/mAP_50": 0.9, "step": 4}] if first == 3 else []
    later.write_text("".join(json.dumps(line) + "\n" for line in own))
    (run,) = find_runs([world.run]).runs
    assert (len(run.train), len(run.val)) == (steps, epochs)
    assert [one["step"] for one in run.train] == list(range(1, steps + 1))
    assert sum(one["lr"] == 7 for one in run.train) == len([one for one in own if "lr" in one])


def test_metrics_beside_the_folder_count_where_they_are_of_its_checkpoint(world):
    content = json.loads((world.run / "metrics.json").read_text())
    (world.run / "metrics.json").unlink()
    (world.work / "metrics.json").write_text(json.dumps(content))
    assert "frcnn" in find_runs([world.run]).runs[0].results
    content["provenance"]["frcnn"]["checkpoint"] = "elsewhere/best_epoch_2.pth"
    (world.work / "metrics.json").write_text(json.dumps(content))
    assert find_runs([world.run]).runs[0].results == {}


def test_predictions_are_those_that_the_test_wrote_wherever_they_are(world, tmp_path):
    """As tools/test.py --out records them; a file that another test has written since is not taken."""
    content = json.loads((world.run / "metrics.json").read_text())
    out = tmp_path / "elsewhere.json"
    out.write_bytes((world.run / "predictions.json").read_bytes())
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    content["provenance"]["frcnn"] |= {"predictions": str(out), "predictions_sha256": digest}
    before = (world.run / "metrics.json").read_text()
    try:
        (world.run / "metrics.json").write_text(json.dumps(content))
        assert find_runs([world.run]).runs[0].predictions == out
        out.write_text("[]")
        assert find_runs([world.run]).runs[0].predictions is None
    finally:
        (world.run / "metrics.json").write_text(before)


def test_damaged_json_is_a_remark(tmp_path):
    remarks = []
    (tmp_path / "a.json").write_text('{"half')
    (tmp_path / "b.json").write_text("[1]")
    assert [read_json(tmp_path / name, remarks) for name in ("a.json", "b.json", "none.json")] == [{}, {}, {}]
    assert len(remarks) == 2
    assert all(str(tmp_path) in remark for remark in remarks)
