import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.classification import calibration, confusion
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import Detections
from covidmm.reports.detections import Comparison
from covidmm.reports.figures.result_figures import comparison_figures, curve_of, label_figures


def ranking(scores, hits, truths):
    return Ranking.of([np.array(scores)], [np.array(hits, bool)], [truths])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=60))
def test_every_point_of_the_curve_is_scikit_learn_s(pairs):
    scores, hits = np.array([pair[0] / 10 for pair in pairs]), np.array([pair[1] for pair in pairs])
    if not hits.any():
        return
    curve = curve_of(ranking(scores, hits, int(hits.sum())), 4)
    precision, recall, thresholds = precision_recall_curve(hits, scores)
    truth = {round(t, 6): (p, r) for p, r, t in zip(precision, recall, thresholds, strict=False)}
    for score, own_precision, own_recall, false in curve.T:
        assert (own_precision, own_recall) == pytest.approx(truth[round(score, 6)])
        assert false == pytest.approx((~hits[scores >= score]).sum() / 4)
    # nothing that is ever reached is lost by thinning
    assert curve[2].max() == pytest.approx(1.0)
    assert curve[3].max() == pytest.approx((~hits).sum() / 4)


def test_a_long_curve_is_thinned():
    rng = np.random.default_rng(0)
    curve = curve_of(ranking(rng.uniform(size=40_000), rng.random(40_000) < 0.5, 30_000), 859)
    assert 400 < curve.shape[1] <= 1002


@pytest.mark.parametrize("count", [0, 3])
def test_the_operating_point_is_marked_even_where_nothing_was_found(count):
    found = [Detections(np.tile([0.0, 0, 10, 10], (count, 1)), np.linspace(0.3, 0.9, count))]
    truths = [TrueBoxes(np.array([[0.0, 0, 10, 10]]))]
    metrics = {"a": {"threshold": 0.5, "mAP_50": 0.5}}
    one = Comparison("c", None, [{"study_id": "s"}], truths, {"a": found}, metrics, "a")
    pr, froc = comparison_figures(one)
    assert (pr.name, froc.name) == ("precision_recall_c", "froc_c")
    assert len(pr.rows) == (2 if count else 0)  # the hit, and the end of the false alarms
    assert "a (0.500)" in pr.svg


def test_classifiers_have_a_matrix_and_reliability_where_they_choose_one_class():
    targets, scores = np.eye(2)[[0, 0, 1]], np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    details = {
        "classes": ["no", "yes"],
        "confusion": confusion(targets, scores),
        "calibration": calibration(targets, scores),
    }
    matrix, reliability = label_figures("a", details)
    assert matrix.rows == [("no", 1, 1), ("yes", 0, 1)]
    assert sum(row[0] for row in reliability.rows) == 3
    assert label_figures("a", {"classes": ["no"], "per_class": {}}) == []
