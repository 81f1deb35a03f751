import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from covidmm.audit import association
from covidmm.audit.association import associate, auroc_interval, aurocs
from covidmm.audit.checks import Level


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_areas_agree_with_scikit_learn(seed):
    chance = np.random.default_rng(seed)
    scores = chance.integers(0, 8, (50, 3)).astype(float)  # with ties
    targets = chance.random((50, 3)) < 0.4
    targets[0], targets[1] = True, False
    expected = [roc_auc_score(targets[:, k], scores[:, k]) for k in range(3)]
    assert aurocs(scores, targets) == pytest.approx(expected)
    area, low, high = auroc_interval(scores[:, 0], targets[:, 0])
    assert area == pytest.approx(expected[0])
    assert 0 <= low <= area <= high <= 1


def test_the_interval_has_its_coverage():
    chance, covered = np.random.default_rng(0), 0
    for _ in range(300):
        truth = np.arange(120) < 40
        _, low, high = auroc_interval(chance.normal(size=120) + truth, truth)
        covered += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert 0.91 <= covered / 300 <= 0.99


def drawn(seed, signal, images=150):
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 3, images)
    features = chance.normal(size=(images, 12))
    features[:, 0] += signal * (labels == 2)
    return features, [(f"class{label}",) for label in labels], [f"patient{k}" for k in range(images)]


def test_a_feature_that_tells_the_class_is_found_and_noise_is_not():
    found = associate(*drawn(1, signal=1.5))
    assert found.best.name == "class2"
    assert found.best.auroc > 0.75
    assert found.level() is Level.WARNING
    assert associate(*drawn(1, signal=8.0)).level() is Level.FAULT
    assert associate(*drawn(1, signal=0.0)).level() is Level.OK


def test_p_values_of_noise_are_uniform(monkeypatch):
    monkeypatch.setattr(association, "PERMUTATIONS", 49)
    p = np.array([associate(*drawn(seed, 0.0, 80)).p for seed in range(100)])
    assert (p <= 0.1).mean() < 0.2
    assert 0.4 < p.mean() < 0.62


def test_copies_of_a_patient_are_no_evidence(monkeypatch):
    monkeypatch.setattr(association, "PERMUTATIONS", 199)
    features, labels, groups = drawn(5, 0.0, 60)
    repeated = np.tile(features, (4, 1)), labels * 4, groups * 4
    found = associate(*repeated)
    assert found.images == 60
    assert found.p > 0.01


def test_what_is_too_small_is_not_tested():
    features, labels, groups = drawn(0, 3.0, 20)
    found = associate(features, labels, groups)
    assert (found.best, found.p, found.level()) == (None, 1.0, Level.OK)
    assert "not tested" in found.text()
    assert associate(np.ones((150, 2)), *drawn(0, 0.0)[1:]).best is None  # nothing varies


def test_the_same_seed_gives_the_same_result_and_large_sets_are_drawn_down(monkeypatch):
    monkeypatch.setattr(association, "PERMUTATIONS", 99)
    assert associate(*drawn(2, 1.0)) == associate(*drawn(2, 1.0))
    monkeypatch.setattr(association, "MAX_IMAGES", 100)
    assert associate(*drawn(2, 1.0)).images == 100
