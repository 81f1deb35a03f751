"""Classification metrics against scikit-learn, mmdet's VOC evaluation, and loops by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from covidmm.evaluation.classification import (
    _study_statistic,
    calibration,
    confusion,
    fit_temperature,
    score_labels,
    score_studies,
    voc_average_precision,
)
from covidmm.findings import STUDY_CLASSES

CLASSES = ("a", "b", "c", "d")


@st.composite
def cases(draw, multi_label):
    """Targets and scores with ties, and with classes that never or always occur."""
    count, seed = draw(st.integers(1, 40)), draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    scores = random.random((count, 4)).round(draw(st.sampled_from([1, 6])))
    if multi_label:
        targets = (random.random((count, 4)) < random.choice([0.0, 0.3, 1.0], 4)).astype(float)
    else:
        targets = np.eye(4)[random.choice(4, count, p=random.choice([[0.25] * 4, [0.5, 0.5, 0, 0], [1, 0, 0, 0]]))]
    return targets, scores


@settings(deadline=None, max_examples=120)
@given(cases(multi_label=True))
def test_multi_label_metrics_are_scikit_learns(case):
    targets, scores = case
    found = score_labels(targets, scores, CLASSES, multi_label=True)
    decisions = scores >= 0.5
    occurring = [i for i in range(4) if targets[:, i].any()]
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, decisions), abs=1e-6)
    for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        values = function(targets, decisions, average=None, zero_division=0)
        assert found[name] == (pytest.approx(values[occurring].mean(), abs=1e-6) if occurring else None)
    aps = [average_precision_score(targets[:, i], scores[:, i]) for i in occurring]
    assert found["absent"] == [name for name, one in found["per_class"].items() if not one["count"]]
    assert found["mAP"] == (pytest.approx(np.mean(aps), abs=1e-6) if aps else None)
    both = [i for i in occurring if not targets[:, i].all()]
    aurocs = [roc_auc_score(targets[:, i], scores[:, i]) for i in both]
    assert found["auroc"] == (pytest.approx(np.mean(aurocs), abs=1e-6) if aurocs else None)


@settings(deadline=None, max_examples=80)
@given(cases(multi_label=False))
def test_single_label_metrics_are_scikit_learns(case):
    targets, scores = case
    found = score_labels(targets, scores, CLASSES, multi_label=False)
    truth, decided = targets.argmax(1), scores.argmax(1)
    present = sorted(set(truth))
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, decided))
    kwargs = {"labels": present, "average": "macro", "zero_division": 0}
    assert found["f1"] == pytest.approx(f1_score(truth, decided, **kwargs), abs=1e-6)
    assert found["recall"] == pytest.approx(recall_score(truth, decided, **kwargs), abs=1e-6)
    assert found["precision"] == pytest.approx(precision_score(truth, decided, **kwargs), abs=1e-6)


def slow_voc(truth, scores):
    """For each recall that is reached, the best precision at that recall or beyond."""
    area, before = 0.0, 0.0
    points = []
    for threshold in sorted(set(scores), reverse=True):
        kept = scores >= threshold
        points.append((truth[kept].sum() / truth.sum(), truth[kept].mean()))
    for index, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[index:])
        before = recall
    return area


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([1, 6]))
def test_voc_average_precision_is_the_area_under_the_envelope(seed, count, digits):
    random = np.random.default_rng(seed)
    truth, scores = random.integers(0, 2, count), random.random(count).round(digits)
    expected = slow_voc(truth, scores) if truth.any() else 0
    assert voc_average_precision(truth, scores) == pytest.approx(expected, abs=1e-6)


def test_confusion_counts_rows_by_truth():
    targets = np.eye(4)[[0, 0, 1, 3]]
    scores = np.eye(4)[[0, 1, 1, 0]]
    found = confusion(targets, scores)
    assert found["counts"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert found["shares"] == [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [None] * 4, [1, 0, 0, 0]]


def test_calibration_by_hand():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    targets = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    found = calibration(targets, scores, bins=10)
    # bins (0.8, 0.9]: confidence 0.9, half right; (0.5, 0.6]: 0.6, right; (0.6, 0.7]: 0.7, right
    assert found["ece"] == pytest.approx((2 * 0.4 + 0.4 + 0.3) / 4)
    assert sum(row["count"] for row in found["bins"]) == 4


def test_the_temperature_that_made_the_logits_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 4))
    targets = np.eye(4)[[random.choice(4, p=p) for p in softmax(logits, axis=1)]]
    for temperature in (0.5, 1.0, 3.0):
        assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.05)
    assert calibration(targets, softmax(logits, axis=1))["ece"] < 0.02


@pytest.mark.parametrize(("targets", "scores"), [((0, 4), (0, 4)), ((2, 4), (3, 4)), ((2, 3), (2, 3))])
def test_shapes_that_do_not_agree_are_refused(targets, scores):
    with pytest.raises(ValueError, match="of 4 classes"):
        score_labels(np.zeros(targets), np.zeros(scores), CLASSES, multi_label=True)


def draw_studies(count=60, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, count)
    scores = rng.dirichlet(np.ones(4), count) * 0.6 + 0.4 * np.eye(4)[kinds]
    return {f"s{k}": (STUDY_CLASSES[kind],) for k, kind in enumerate(kinds)}, kinds, scores


def test_it_is_scikit_learn_s_and_the_test_tool_s():
    truth, kinds, scores = draw_studies()
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    assert found["accuracy"] == accuracy_score(kinds, scores.argmax(1))
    assert found["f1"] == pytest.approx(f1_score(kinds, scores.argmax(1), average="macro"))
    assert found["mAP"] == score_labels(np.eye(4)[kinds], scores, STUDY_CLASSES, multi_label=False)["mAP"]
    assert np.sum(found["confusion"]["counts"]) == 60


def test_the_intervals_hold_the_values():
    truth, _, scores = draw_studies()
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    for name in ("accuracy", "precision", "recall", "f1", "mAP"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
        assert high - low < 0.4


def test_a_study_that_was_not_classified_counts_as_negative():
    truth, kinds, scores = draw_studies()
    answered = {f"s{k}": row for k, row in enumerate(scores) if k}
    first = np.array([1.0, 0, 0, 0])
    found = score_studies(truth, answered)
    assert found["accuracy"] == accuracy_score(kinds, np.concatenate([[first], scores[1:]]).argmax(1))
    assert found["unclassified"] == 1


def test_at_weights_of_one_the_statistic_is_the_metric():
    truth, kinds, scores = draw_studies(seed=3)
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    ones = _study_statistic(np.eye(4)[kinds], scores, False)(np.ones(60))
    assert ones == pytest.approx({name: found[name] for name in ones}, abs=1e-9)
