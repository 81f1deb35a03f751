"""Against pycocotools and scikit-learn, on weights that repeat studies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from covidmm.evaluation.classification import score_labels
from covidmm.evaluation.detection import average_precision, match
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


def ranking(rows, studies=5):
    hits = [match(found, scores, truth) for _, truth, found, scores in rows]
    return Ranking.of(
        [scores for *_, scores in rows], hits, [len(truth) for _, truth, *_ in rows], [row[0] for row in rows], studies
    )


def coco(rows):
    """The same images as COCO files."""
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "opacity"}]}
    results = []
    for number, (_, boxes_, found, scores) in enumerate(rows, 1):
        truth["images"].append({"id": number, "height": 300, "width": 300})
        for x1, y1, x2, y2 in boxes_.tolist():
            entry = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, **entry}
            )
        for (x1, y1, x2, y2), score in zip(found.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    return truth, results


@given(st.integers(0, 10_000))
def test_coco_ap_is_pycocotools_s_wherever_both_match_alike(seed):
    rows = draw(seed)
    if not sum(len(truth) for _, truth, *_ in rows):
        return
    # boxes far apart: the two rules of matching (best truth at all, best free truth) then agree
    rows = [(study, truth[:1], found[: 1 + len(found) - len(truth)], scores[: 1 + len(found) - len(truth)])
            if len(truth) else (study, truth, found, scores) for study, truth, found, scores in rows]  # fmt: skip
    found = ranking(rows).coco_ap(np.ones(5))
    assert found == pytest.approx(average_precision(*coco(rows))[1]["mAP_50"], abs=1e-6)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_a_weight_is_a_study_repeated(seed, weights):
    rows = draw(seed)
    repeated = [row for row in rows for _ in range(weights[row[0]])]
    if not sum(len(truth) for _, truth, *_ in repeated):
        return
    one, other = ranking(rows), ranking(repeated)
    own, ones = np.array(weights, float), np.ones(5)
    assert one.voc_ap(own) == pytest.approx(other.voc_ap(ones), abs=1e-9)
    assert one.coco_ap(own) == pytest.approx(other.coco_ap(ones), abs=1e-9)
    assert one.at(0.4, own) == pytest.approx(other.at(0.4, ones), abs=1e-9)


@given(st.integers(0, 10_000), st.booleans())
def test_voc_ap_of_unit_boxes_is_that_of_the_study_metrics(seed, rounded):
    rng = np.random.default_rng(seed)
    targets, scores = np.eye(4)[rng.integers(0, 4, 20)], rng.dirichlet(np.ones(4), 20)
    scores = scores.round(1) if rounded else scores
    wanted = score_labels(targets, scores, list("abcd"), multi_label=False)["per_class"]
    for index, name in enumerate("abcd"):
        one = Ranking.of(
            list(scores[:, [index]]), list(targets[:, [index]] > 0), targets[:, index].tolist(), range(20), 20
        )
        found = one.voc_ap(np.ones(20))
        if wanted[name]["ap"] is None:
            assert np.isnan(found)
        else:
            # which mmdet computes in float32
            assert found == pytest.approx(wanted[name]["ap"], abs=1e-6)
            # scikit-learn's area without the envelope is never larger
            assert found >= average_precision_score(targets[:, index], scores[:, index]) - 1e-9
            precision, recall, _ = precision_recall_curve(targets[:, index], scores[:, index])
            assert one.curve(np.ones(20))[1][-1] == recall[0]
            assert one.curve(np.ones(20))[0][-1] == pytest.approx(precision[0])


def test_no_truth_and_no_prediction():
    empty = Ranking.of([np.zeros(0)], [np.zeros(0, bool)], [2], [0], 1)
    assert (empty.voc_ap(np.ones(1)), empty.coco_ap(np.ones(1)), empty.at(0.5, np.ones(1))) == (0, 0, (0, 0, 0))
    alone = Ranking.of([np.array([0.9])], [np.zeros(1, bool)], [0], [0], 1)
    assert np.isnan([alone.voc_ap(np.ones(1)), alone.coco_ap(np.ones(1)), *alone.at(0.5, np.ones(1))]).all()
