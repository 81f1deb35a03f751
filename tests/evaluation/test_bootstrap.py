import numpy as np
import pytest
from scipy.stats import bootstrap

from covidmm.evaluation.bootstrap import draw_images, interval, intervals, resampled


def test_of_single_observations_it_is_scipy_s():
    values = np.random.default_rng(1).normal(3, 2, 80)
    low, high = intervals(lambda weights: {"mean": weights @ values / weights.sum()}, 80, 4000)["mean"]
    wanted = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.06)


def test_studies_of_many_images_widen_the_interval():
    # each study's images agree, so a hundred images are worth no more than ten studies
    values = np.random.default_rng(2).normal(0, 1, 10)
    narrow = intervals(lambda w: {"m": w @ np.repeat(values, 10) / w.sum()}, 100, 800)["m"]
    wide = intervals(lambda w: {"m": w @ (values * 10) / (10 * w.sum())}, 10, 800)["m"]
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_the_same_seed_gives_the_same_ends_and_undefined_draws_do_not_count():
    def statistic(weights):
        return {"a": weights @ np.arange(6) ** 1.7, "b": 1.0 if weights[0] else float("nan"), "never": float("nan")}

    first, again = (intervals(statistic, 6, 300, seed=4) for _ in range(2))
    assert first == again != intervals(statistic, 6, 300, seed=5)
    assert first["b"] == (1, 1)
    assert "never" not in first


def test_images_of_a_study_are_drawn_together():
    draws = draw_images(np.array([0, 1, 1, 2, 0]), seed=1, resamples=50)
    assert draws.shape == (50, 5)
    assert (draws[:, 0] == draws[:, 4]).all()
    assert (draws[:, 1] == draws[:, 2]).all()
    assert (draws[:, [0, 1, 3]].sum(1) == 3).all()
    assert (draw_images(np.array([0, 1, 1, 2, 0]), seed=2, resamples=50) != draws).any()


def test_values_that_are_undefined_do_not_count():
    values = resampled(lambda draw: {"a": float(draw.sum()) or float("nan")}, np.array([[0.0, 0], [1, 1], [4, 0]]))["a"]
    assert interval(values, 0.25) == (2.5, 3.5)
    assert np.isnan(interval(np.full(3, np.nan))).all()
