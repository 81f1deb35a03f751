import json
from dataclasses import replace

import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import DataError
from covidmm.evaluation.detection import match
from covidmm.reports.detections import KINDS, of_fused, of_run
from covidmm.reports.runs import find_runs


@pytest.fixture
def splits(world):
    return list(read_prepared(world.data).splits.values())


def test_a_run_keeps_the_metrics_of_its_test_and_gets_intervals(world, splits):
    (run,) = find_runs([world.run]).runs
    found = of_run(run, splits)
    metrics = found.metrics["frcnn"]
    stored = json.loads((world.run / "metrics.json").read_text())["detectors"]["frcnn"]
    assert {key: metrics[key] for key in stored} == stored
    for key in ("mAP_50", "f1", "precision", "recall"):
        low, high = metrics[f"{key}_interval"]
        assert low <= metrics[key] <= high
        assert low < high
    precision, recall, _ = found.rankings["frcnn"][0].at(0.5)
    assert (precision, recall) == (pytest.approx(stored["precision"]), pytest.approx(stored["recall"]))


def test_an_ensemble_is_compared_in_pixels_of_the_originals(world, splits):
    (fused,) = find_runs([world.ensemble]).fused
    found = of_fused(fused, splits)
    assert list(found.found) == ["frcnn", "yolo", "ensemble"]
    assert found.final == "ensemble"
    assert found.truths[0].boxes.tolist() == [
        pytest.approx([40, 61.5, 140, 225.5]),
        pytest.approx([240, 61.5, 340, 225.5]),
    ]
    # the same boxes as the run's, so nearly the same numbers (the scores are float32 there)
    (run,) = find_runs([world.run]).runs
    assert found.metrics["frcnn"]["mAP_50"] == pytest.approx(of_run(run, splits).metrics["frcnn"]["mAP_50"], abs=1e-6)


def test_every_case_is_what_it_is_shown_for(world, splits):
    (fused,) = find_runs([world.ensemble]).fused
    cases = of_fused(fused, splits).cases(2)
    assert len({case.name for _, case, _ in cases}) == len(cases)
    assert [kind for kind, *_ in cases] == sorted((kind for kind, *_ in cases), key=KINDS.index)
    kinds = {kind: [case for own, case, _ in cases if own == kind] for kind in KINDS}
    assert all(len(own) <= 2 for own in kinds.values())
    assert all(len(case.truth) and not case.hits.any() for case in kinds["missed"])
    assert all(not len(case.truth) and len(case.found) for case in kinds["false alarm"])
    assert min(case.f1 for case in kinds["best"]) >= max(case.f1 for case in kinds["worst"])
    for _, case, _ in cases:
        assert case.hits.tolist() == match(case.found.boxes, case.found.scores, case.truth.boxes).tolist()
        assert list(case.members) == ["frcnn", "yolo"]


def test_a_part_of_the_images_is_not_drawn_as_if_it_were_all(world, splits):
    (run,) = find_runs([world.run]).runs
    part = replace(run, results={"frcnn": {**run.results["frcnn"], "images": 3}})
    with pytest.raises(DataError, match=r"3 of the \d+ images of .*test\.json were evaluated"):
        of_run(part, splits)


def test_predictions_of_other_annotations_are_refused(world, splits):
    (run,) = find_runs([world.run]).runs
    with pytest.raises(DataError, match="--data"):
        of_run(run, [])
    results = json.loads(run.predictions.read_text())
    run.predictions.write_text(json.dumps([{**results[0], "image_id": 999}]))
    with pytest.raises(DataError, match="999"):
        of_run(run, splits)
    run.predictions.write_text("[{]")
    with pytest.raises(DataError, match=r"predictions\.json"):
        of_run(run, splits)
    (fused,) = find_runs([world.ensemble]).fused
    with pytest.raises(DataError, match="--data"):
        of_fused(fused, [])


def test_a_detector_that_found_nothing_is_scored(world, splits):
    (run,) = find_runs([world.run]).runs
    run.predictions.write_text("[]")
    found = of_run(run, splits)
    assert len(found.rankings["frcnn"][0].scores) == 0
    assert {kind for kind, *_ in found.cases(1)} == {"best", "median", "worst", "missed"}


def test_without_truth_there_is_nothing_to_compare_with(world):
    content = json.loads(world.annotations.read_text())
    world.annotations.write_text(json.dumps({**content, "annotations": []}))
    (fused,) = find_runs([world.ensemble]).fused
    with pytest.raises(DataError, match="none of its images has a box"):
        of_fused(fused, list(read_prepared(world.data).splits.values()))
