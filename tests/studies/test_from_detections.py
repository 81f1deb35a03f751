from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.errors import ConfigError
from covidmm.findings import STUDY_CLASSES, Detections, Study
from covidmm.radiograph import Header
from covidmm.studies.from_detections import RulesOnDetections


class Film:
    """As much of a radiograph as the rules look at."""

    header = Header(Path("film.png"), height=100, width=200)
    pixels = np.zeros((0, 0), np.uint8)  # none are needed


def likeliest(*boxes_and_scores, **options):
    boxes, scores = [one[:4] for one in boxes_and_scores], [one[4] for one in boxes_and_scores]
    study = Study("s", [Film()], [Detections(boxes, scores)])
    return STUDY_CLASSES[int(RulesOnDetections(**options).classify(study).argmax())]


LEFT, RIGHT, LOBE = (20, 40, 60, 70, 0.9), (140, 40, 180, 70, 0.9), (20, 10, 80, 90, 0.9)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ((), "negative"),
        ((LEFT, RIGHT), "typical"),
        ((LEFT,), "indeterminate"),
        ((RIGHT, RIGHT), "indeterminate"),
        ((LOBE,), "atypical"),
        (((20, 40, 60, 70, 0.05),), "negative"),
    ],
)
def test_the_definitions(boxes, expected):
    assert likeliest(*boxes) == expected


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 150), st.floats(0, 60), st.floats(1, 50), st.floats(1, 40), st.floats(0, 1)), max_size=6
    ),
    st.integers(0, 2),
)
def test_probabilities_add_up_to_1(rows, films):
    found = Detections([[x, y, x + w, y + h] for x, y, w, h, _ in rows], [row[4] for row in rows])
    scores = RulesOnDetections().classify(Study("s", [Film()] * films, [found] * films))
    assert scores.shape == (4,)
    assert scores.min() >= -1e-6
    assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_the_most_opaque_film_speaks_for_the_study():
    none, some = Detections(np.zeros((0, 4)), []), Detections([LEFT[:4], RIGHT[:4]], [0.9, 0.9])
    study = Study("s", [Film(), Film()], [none, some])
    assert STUDY_CLASSES[int(RulesOnDetections().classify(study).argmax())] == "typical"


@pytest.mark.parametrize("wrong", [{"threshold": 1.0}, {"prior_negative": 0.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must lie in"):
        RulesOnDetections(**wrong)


def test_boxes_of_other_classes_do_not_count():
    found = Detections([[10, 10, 30, 30], [60, 10, 80, 30]], [0.9, 0.9], [0, 1])
    alone = Detections([[60, 10, 80, 30]], [0.9])
    wanted = RulesOnDetections().classify(Study("s", [Film()], [alone]))
    assert np.array_equal(RulesOnDetections().classify(Study("s", [Film()], [found], ("nodule", "opacity"))), wanted)
    with pytest.raises(ConfigError, match="finding is 'opacity', the ensemble finds nodule, mass"):
        RulesOnDetections().classify(Study("s", [Film()], [found], ("nodule", "mass")))
