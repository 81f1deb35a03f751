import cv2
import numpy as np
import pytest

from covidmm.phantom.canvas import Canvas, ramp, smooth


@pytest.fixture
def canvas():
    return Canvas(height=200, width=240, unit=80, centre=(120.0, 100.0), angle=20)


def test_grid_inverts_the_placement(canvas):
    points = np.array([[0.3, -0.4], [-0.7, 0.2]], np.float32)
    for (x, y), (column, row) in zip(points, canvas.pixels(points) / 16, strict=True):
        nearest = round(row), round(column)
        assert canvas.x[nearest] == pytest.approx(x, abs=1 / 80)
        assert canvas.y[nearest] == pytest.approx(y, abs=1 / 80)


def test_a_positive_angle_turns_the_body_clockwise_on_the_screen(canvas):
    right = canvas.pixels(np.array([[1.0, 0.0]]))[0] / 16
    assert right[1] > 100


def test_fill_has_the_area_of_its_outline(canvas):
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = canvas.fill(0.5 * np.stack([np.cos(angles), np.sin(angles)], 1))
    assert np.sqrt(disc.sum() / np.pi) == pytest.approx(40, abs=1)  # OpenCV's smooth edge is half a pixel wide
    assert canvas.depth(disc).max() == pytest.approx(0.5, rel=0.05)


def test_distance_is_euclidean(canvas):
    line = np.array([[-3.0, 0.0], [3.0, 0.0]], np.float32)
    exact = np.abs(canvas.y)
    assert (np.abs(canvas.distance([line]) - exact) < 1.5 / 80 + 0.03 * exact).all()


@pytest.mark.parametrize("radius", [0.02, 0.25])
def test_blur_equals_opencv(canvas, radius):
    picture = canvas.fill(np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]))
    expected = cv2.GaussianBlur(picture, (0, 0), radius * 80)
    assert np.abs(canvas.blur(picture, radius) - expected).max() < 0.06


def test_noise_has_zero_mean_and_unit_deviation_and_the_asked_grain(canvas):
    fine, coarse = (canvas.noise(np.random.default_rng(0), grain) for grain in (0.03, 0.3))
    for relief in (fine, coarse):
        assert relief.mean() == pytest.approx(0, abs=1e-3)
        assert relief.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(fine)).mean() > 4 * np.abs(np.diff(coarse)).mean()


@pytest.mark.parametrize("closed", [True, False])
def test_smooth_passes_through_its_points(closed):
    points = np.random.default_rng(1).uniform(-1, 1, (7, 2)).astype(np.float32)
    curve = smooth(points, closed, samples=5)
    apart = np.linalg.norm(curve[:, None] - points, axis=2).min(axis=0)
    assert apart.max() < 1e-5


def test_ramp_is_smooth_and_monotone():
    values = ramp(np.linspace(-1, 2, 301, dtype=np.float32), 0, 1)
    assert values[0] == 0
    assert values[-1] == 1
    assert (np.diff(values) >= 0).all()
    assert np.diff(values).max() < 0.02
