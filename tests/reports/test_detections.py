import json
from dataclasses import replace

import numpy as np
import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import DataError
from covidmm.evaluation.detection import match, score_detections
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


def of_findings(world):
    splits = list(read_prepared(world.data).splits.values())
    return of_fused(find_runs([world.ensemble]).fused[0], splits)


def test_several_classes_are_scored_at_the_threshold_of_each(findings):
    found = of_findings(findings)
    assert found.classes == ("Nodule/Mass", "Pleural effusion", "Pneumothorax")
    assert found.thresholds("yolo") == pytest.approx([0.3, 0.4, 0.5])
    metrics = found.metrics["ensemble"]
    for label, (name, own) in enumerate(metrics["per_class"].items()):
        precision, recall, f1 = found.rankings["ensemble"][label].at(0.3 + 0.1 * label)
        assert (own["precision"], own["recall"], own["f1"]) == pytest.approx((precision, recall, f1))
        assert own["boxes"] == found.boxes[name] >= found.images_per_class[name] > 0
    kept = found.above("ensemble", 1)
    assert (kept.scores >= found.thresholds("ensemble")[kept.labels]).all()
    assert set(metrics["errors"]) == set(found.classes) == set(metrics["confusion"]["classes"])


def test_cases_of_several_classes_are_of_every_one(findings):
    found = of_findings(findings)
    cases = found.cases(2)
    assert len({case.image.name for case in cases}) == len(cases) <= 2 * len(found.classes)
    assert {case.finding for case in cases} == set(found.classes)
    for case in cases:
        own = case.image.of_class(found.classes.index(case.finding))
        assert own.counts[0] if case.kind == "best" else sum(own.counts[1:])
        assert set(own.truth.labels) | set(own.found.labels) == {found.classes.index(case.finding)}


def test_a_class_alone_keeps_its_matches(findings):
    for case in of_findings(findings).cases(1):
        parts = [case.image.of_class(label).counts for label in range(3)]
        assert np.sum(parts, axis=0).tolist() == list(case.image.counts)


def test_a_run_of_joined_and_chosen_classes_is_compared_as_it_was_tested(findings):
    (run,) = find_runs([findings.run]).runs
    config = (
        "test_evaluator = dict(class_map={'Pneumothorax': 'Pleural effusion'})\n"
        "test_dataloader = dict(dataset=dict(metainfo=dict(classes=('Pleural effusion',))))\n"
    )
    run.config.write_text(config)
    results = [one for one in json.loads(run.predictions.read_text()) if one["category_id"] == 2]
    run.predictions.write_text(json.dumps(results))
    metrics = {key: value for key, value in run.results["frcnn"].items() if key in ("threshold", "images")}
    found = of_run(replace(run, results={"frcnn": metrics}), list(read_prepared(findings.data).splits.values()))
    assert found.classes == ("Pleural effusion",)
    truth = json.loads(findings.annotations.read_text())
    assert sum(map(len, found.truths)) == sum(one["category_id"] > 1 for one in truth["annotations"])
    joined = {**truth, "categories": truth["categories"][1:2]}
    joined["annotations"] = [{**one, "category_id": 2} for one in truth["annotations"] if one["category_id"] > 1]
    expected = score_detections(joined, results, metrics["threshold"])
    assert {key: found.metrics["frcnn"][key] for key in expected} == pytest.approx(expected, abs=1e-6)
