"""Against scikit-learn, and on weights that repeat studies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from covidmm.evaluation.classification import score_labels
from covidmm.evaluation.detection import rank
from covidmm.evaluation.ranking import Ranking


def draw(seed, images=12, studies=5):
    """Random truth and predictions per image, no two scores alike."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        truth = boxes(rng, rng.integers(0, 4))
        near = truth + rng.uniform(-6, 6, truth.shape)
        found = np.concatenate([near, boxes(rng, rng.integers(0, 4))])
        rows.append((image % studies, truth, found, rng.uniform(0.01, 1, len(found))))
    return rows


def boxes(rng, count):
    low = rng.uniform(0, 100, (count, 2))
    return np.concatenate([low, low + rng.uniform(20, 60, (count, 2))], axis=1)


def ranking(rows):
    found = [(boxes, scores) for *_, boxes, scores in rows]
    return rank(found, [truth for _, truth, *_ in rows], [row[0] for row in rows])


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_a_weight_is_a_study_repeated(seed, weights):
    rows = draw(seed)
    repeated = [row for row in rows for _ in range(weights[row[0]])]
    if not sum(len(truth) for _, truth, *_ in repeated):
        return
    one, other, own = ranking(rows), ranking(repeated), np.array(weights, float)
    assert one.voc_ap(own) == pytest.approx(other.voc_ap(), abs=1e-9)
    assert one.coco_ap(own) == pytest.approx(other.coco_ap(), abs=1e-9)
    assert one.step_ap(own) == pytest.approx(other.step_ap(), abs=1e-9)
    assert one.at(0.4, own) == pytest.approx(other.at(0.4), abs=1e-9)


def test_weights_of_one_change_nothing():
    one, ones = ranking(draw(3)), np.ones(5)
    assert (one.voc_ap(ones), one.coco_ap(ones), one.at(0.4, ones)) == (one.voc_ap(), one.coco_ap(), one.at(0.4))


@given(st.integers(0, 10_000), st.booleans())
def test_voc_ap_of_unit_boxes_is_that_of_the_study_metrics(seed, rounded):
    rng = np.random.default_rng(seed)
    targets, scores = np.eye(4)[rng.integers(0, 4, 20)], rng.dirichlet(np.ones(4), 20)
    scores = scores.round(1) if rounded else scores
    wanted = score_labels(targets, scores, list("abcd"), multi_label=False)["per_class"]
    for index, name in enumerate("abcd"):
        one = Ranking.of(list(scores[:, [index]]), list(targets[:, [index]] > 0), targets[:, index].tolist())
        found = one.voc_ap()
        if wanted[name]["ap"] is None:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(wanted[name]["ap"], abs=1e-6)
            # scikit-learn's area without the envelope is never larger
            assert found >= average_precision_score(targets[:, index], scores[:, index]) - 1e-9
            precision, recall, _ = precision_recall_curve(targets[:, index], scores[:, index])
            assert one.curve()[1][-1] == recall[0]
            assert one.curve()[0][-1] == pytest.approx(precision[0])


def test_no_truth_and_no_prediction():
    empty = Ranking.of([np.zeros(0)], [np.zeros(0, bool)], [2])
    assert (empty.voc_ap(), empty.coco_ap(), empty.at(0.5)) == (0, 0, (0, 0, 0))
    alone = Ranking.of([np.array([0.9])], [np.zeros(1, bool)], [0])
    assert np.isnan([alone.voc_ap(), alone.coco_ap(), *alone.at(0.5)]).all()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(0, 3)), min_size=1))
def test_the_area_by_steps_is_scikit_learn_s_ties_and_weights_too(rows):
    truth, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    if not truth @ weights:
        return
    one = Ranking.of(list(scores[:, None]), list(truth[:, None] > 0), truth.tolist())
    assert one.step_ap(weights) == pytest.approx(average_precision_score(truth, scores, sample_weight=weights))
