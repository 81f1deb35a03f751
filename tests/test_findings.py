import numpy as np
import pytest

from covidmm.findings import Detections, Study


def test_detections_are_float32_with_labels():
    found = Detections([[1, 2, 3, 4]], [0.5])
    assert (found.boxes.dtype, found.scores.dtype, found.labels.tolist()) == (np.float32, np.float32, [0])
    assert len(found) == 1


def test_no_detections_have_their_shape():
    empty = Detections([], [])
    assert empty.boxes.shape == (0, 4)
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        ([[0, 0, 1, 1]], [], [], "1 boxes, but scores"),
        ([[0, 0, 1, 1]], [0.5], [0, 1], "labels"),
        ([[0, 0, 1, np.nan]], [0.5], [], "finite"),
        ([[0, 0, 1, 1]], [1.5], [], r"0\.\.1"),
    ],
)
def test_contradictions_are_refused(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels)


def test_a_study_needs_detections_per_radiograph():
    with pytest.raises(ValueError, match="0 radiographs, but 1"):
        Study("s", [], [Detections([], [])])
