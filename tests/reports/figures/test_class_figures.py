import csv
import io

import numpy as np
import pytest

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.coco_dicts import coco_results, coco_truth
from covidmm.evaluation.detection import score_detections
from covidmm.evaluation.detection_details import with_details
from covidmm.findings import Detections
from covidmm.reports.detections import Comparison
from covidmm.reports.figures.class_figures import (
    calibration_figure,
    confusion_figure,
    curve_figures,
    detector_figures,
    error_figure,
)


def compared(classes, images=30, seed=0):
    """One detector on images with up to three boxes, near which most predictions lie; a third are of any class."""
    rng = np.random.default_rng(seed)
    names = [f"finding {number}" for number in range(classes)]
    entries = [{"id": number, "study_id": f"s{number}"} for number in range(1, images + 1)]
    truths, found = [], []
    for _ in entries:
        low = rng.uniform(0, 200, (rng.integers(0, 4), 2))
        boxes = np.hstack([low, low + rng.uniform(30, 60, low.shape)])
        labels = rng.integers(0, classes, len(boxes))
        truths.append(TrueBoxes(boxes, labels))
        guessed = np.where(rng.random(len(boxes)) < 0.3, rng.integers(0, classes, len(boxes)), labels)
        found.append(Detections(boxes + rng.normal(0, 3, boxes.shape), rng.random(len(boxes)), guessed))
    truth, results = coco_truth(entries, truths, names), coco_results(entries, found)
    metrics = with_details(score_detections(truth, results, 0.3), truth, results)
    return Comparison("c", None, entries, truths, {"a": found}, {"a": metrics}, "a", names)


def rows_of(figure):
    return list(csv.DictReader(io.StringIO(figure.csv().decode())))


def test_every_class_has_a_panel_and_its_numbers():
    found = compared(3)
    pr, froc = curve_figures(found)
    assert pr.wide
    assert froc.rows == pr.rows
    for label, name in enumerate(found.classes):
        assert name in pr.svg
        own = [row for row in rows_of(froc) if row["class"] == name]
        ranking = found.rankings["a"][label]
        assert float(own[-1]["recall"]) == pytest.approx(ranking.hits.sum() / ranking.truths.sum(), abs=1e-5)
        false = (~ranking.hits).sum() / len(found.images)
        assert float(own[-1]["false_positives_per_image"]) == pytest.approx(false, abs=1e-5)


def test_of_many_classes_those_with_most_boxes_have_a_panel_and_all_their_numbers():
    found = compared(26, images=60)
    pr, _ = curve_figures(found)
    assert sum(f">{name}<" in pr.svg for name in found.classes) == 20
    assert "without a panel" in pr.caption
    boxed = {name for name, count in found.boxes.items() if count}
    assert {row["class"] for row in rows_of(pr)} <= boxed
    assert len({row["class"] for row in rows_of(pr)}) > 20


def test_confusion_has_counts_and_shares_of_each_row():
    found = compared(3)
    figure = confusion_figure(found)
    counts = found.metrics["a"]["confusion"]["counts"]
    assert [row[1:] for row in figure.rows] == [tuple(row) for row in counts]
    assert [row[0] for row in figure.rows][-1] == "background"
    assert figure.columns[-1] == "missed"
    own = np.array(counts[0])
    assert f"{own[0] / own.sum():.0%}" in figure.svg


def test_errors_and_calibration_are_those_of_the_metrics():
    found = compared(2)
    errors = found.metrics["a"]["errors"]
    assert [row[1:] for row in error_figure(found).rows] == [tuple(own.values()) for own in errors.values()]
    figure = calibration_figure(found)
    for name, own in found.metrics["a"]["per_class"].items():
        assert [row[1:] for row in figure.rows if row[0] == name] == [tuple(row.values()) for row in own["calibration"]]
        assert f"{name} ({own['ece']:.3f})" in figure.svg


def test_one_class_has_errors_and_calibration_beside_its_curves():
    found = compared(1)
    figures = detector_figures(found)
    assert [one.name for one in figures] == ["precision_recall_c", "froc_c", "calibration_c", "errors_c"]
    assert "classification" not in figures[-1].svg
    assert not any(one.wide for one in figures)


def test_a_detector_that_found_nothing_has_figures():
    found = compared(2)
    nothing = {"a": [Detections.none()] * len(found.images)}
    truth = coco_truth(found.images, found.truths, found.classes)
    metrics = {"a": with_details(score_detections(truth, [], 0.5), truth, [])}
    empty = Comparison("c", None, found.images, found.truths, nothing, metrics, "a", found.classes)
    assert [len(one.rows) for one in detector_figures(empty)] == [0, 0, 3, 2, 0]
