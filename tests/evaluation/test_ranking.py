"""Against scikit-learn, and on weights that repeat studies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from covidmm.evaluation.classification import score_labels
from covidmm.evaluation.detection import rank
from covidmm.evaluation.ranking import FALSE_POSITIVES, Ranking


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
    assert one.sensitivities(own) == pytest.approx(other.sensitivities(), abs=1e-9)


def luna16(scores, hits, truths, images):
    """Sensitivities as LUNA16's program computes them: scikit-learn's ROC, missed boxes scored below everything."""
    missed = truths - int(hits.sum())
    labels = np.concatenate([hits, np.ones(missed)])
    ranked = np.concatenate([scores, np.full(missed, -1.0)])
    false_share, true_share, _ = roc_curve(labels, ranked, drop_intermediate=False)
    # at the last threshold the missed ones would count as found
    kept = slice(None, -1) if missed else slice(None)
    false, found = (false_share * (~hits).sum())[kept], (true_share * truths)[kept]
    return np.interp(np.array(FALSE_POSITIVES) * images, false, found / truths)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60), st.integers(0, 5))
def test_froc_is_luna16_s(pairs, missed):
    scores, hits = np.array([one[0] for one in pairs]) / 6, np.array([one[1] for one in pairs])
    truths = int(hits.sum()) + missed
    if not truths or hits.all():
        return
    parts = [slice(k, None, 3) for k in range(3)]
    one = Ranking.of([scores[k] for k in parts], [hits[k] for k in parts], [truths, 0, 0])
    assert one.sensitivities() == pytest.approx(luna16(scores, hits, truths, 3), abs=1e-12)


def test_froc_ends_where_predictions_do():
    one = Ranking.of([np.array([0.9, 0.8, 0.7, 0.6])], [np.array([True, False, True, False])], [4])
    assert one.sensitivities().tolist() == [0.25] * 3 + [0.5] * 4


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
    assert empty.sensitivities().tolist() == [0] * 7
    alone = Ranking.of([np.array([0.9])], [np.zeros(1, bool)], [0])
    assert np.isnan([alone.voc_ap(), alone.coco_ap(), *alone.at(0.5), *alone.sensitivities()]).all()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(0, 3)), min_size=1))
def test_the_area_by_steps_is_scikit_learn_s_ties_and_weights_too(rows):
    truth, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    if not truth @ weights:
        return
    one = Ranking.of(list(scores[:, None]), list(truth[:, None] > 0), truth.tolist())
    assert one.step_ap(weights) == pytest.approx(average_precision_score(truth, scores, sample_weight=weights))
