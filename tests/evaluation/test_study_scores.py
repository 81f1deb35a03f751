import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from covidmm.evaluation.classification import score_labels
from covidmm.evaluation.study_scores import _statistic, score_studies
from covidmm.findings import STUDY_CLASSES


def draw(count=60, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, count)
    scores = rng.dirichlet(np.ones(4), count) * 0.6 + 0.4 * np.eye(4)[kinds]
    return {f"s{k}": STUDY_CLASSES[kind] for k, kind in enumerate(kinds)}, kinds, scores


def test_it_is_scikit_learn_s_and_the_test_tool_s():
    truth, kinds, scores = draw()
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    assert found["accuracy"] == accuracy_score(kinds, scores.argmax(1))
    assert found["f1"] == pytest.approx(f1_score(kinds, scores.argmax(1), average="macro"))
    assert found["mAP"] == score_labels(np.eye(4)[kinds], scores, STUDY_CLASSES, multi_label=False)["mAP"]
    assert np.sum(found["confusion"]["counts"]) == 60


def test_the_intervals_hold_the_values():
    truth, _, scores = draw()
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    for name in ("accuracy", "precision", "recall", "f1", "mAP"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
        assert high - low < 0.4


def test_a_study_that_nobody_classified_counts_as_negative():
    truth, kinds, scores = draw()
    answered = {f"s{k}": row for k, row in enumerate(scores) if k}
    first = np.array([1.0, 0, 0, 0])
    found = score_studies(truth, answered)
    assert found["accuracy"] == accuracy_score(kinds, np.concatenate([[first], scores[1:]]).argmax(1))
    assert found["unclassified"] == 1


def test_at_weights_of_one_the_statistic_is_the_metric():
    truth, kinds, scores = draw(seed=3)
    found = score_studies(truth, {f"s{k}": row for k, row in enumerate(scores)})
    ones = _statistic(np.eye(4)[kinds], scores)(np.ones(60))
    assert ones == pytest.approx({name: found[name] for name in ones}, abs=1e-9)
