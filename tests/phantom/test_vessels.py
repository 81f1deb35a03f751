import numpy as np

from covidmm.phantom.vessels import draw_vessels


def test_vessels_thin_out_away_from_the_hila(upright, rng):
    vessels = draw_vessels(upright, rng)
    assert vessels.min() >= 0
    reach = np.abs(upright.x)
    assert vessels[(reach > 0.1) & (reach < 0.4)].mean() > 1.2 * vessels[(reach > 0.7) & (reach < 1.0)].mean()


def test_two_images_have_vessels_of_their_own(upright):
    one, two, again = (draw_vessels(upright, np.random.default_rng(seed)) for seed in (1, 2, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)
