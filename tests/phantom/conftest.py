import numpy as np
import pytest

from covidmm.phantom.canvas import Canvas
from covidmm.phantom.patient import Patient


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def upright():
    """A canvas whose body stands straight in the middle."""
    return Canvas(height=300, width=280, unit=120, centre=(140.0, 150.0), angle=0)


@pytest.fixture
def person(rng):
    return Patient.draw(rng)
