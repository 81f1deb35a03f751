import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import PluginError
from covidmm.findings import STUDY_CLASSES, Detections, Study, StudyLabels


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


NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True).map(tuple)


@given(NAMES, st.booleans(), st.data())
def test_what_labels_say_survives_a_file(names, multi_label, data):
    labels = StudyLabels(names, multi_label, data.draw(st.none() | st.sampled_from(names)))
    assert StudyLabels.of_json(json.loads(json.dumps(labels.to_json()))) == labels
    assert StudyLabels.of(labels_of(labels)) == labels


def labels_of(labels):
    return SimpleNamespace(classes=labels.names, multi_label=labels.multi_label, negative=labels.negative)


def test_a_classifier_that_says_nothing_is_of_siim():
    for one in (None, object(), SimpleNamespace(classes=STUDY_CLASSES), SimpleNamespace(classes=None)):
        assert StudyLabels.of(one) == StudyLabels(STUDY_CLASSES, False, "negative")
        assert StudyLabels.of(one).to_json() == {}
    several = StudyLabels.of(SimpleNamespace(classes=STUDY_CLASSES, multi_label=True))
    assert not several.of_siim
    assert several.to_json()["multi_label"]


@pytest.mark.parametrize("names", [(), "abc", ("a", ""), ("a", "a"), ("a", 1), 3])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(PluginError, match=r"^classes"):
        StudyLabels(names, negative=None)
    with pytest.raises(PluginError, match="negative is 'b', the classes are a"):
        StudyLabels(("a",), negative="b")


def test_the_likeliest_class_or_all_labels_from_a_half_hold():
    assert StudyLabels().present([0.1, 0.4, 0.3, 0.2]) == ("typical",)
    several = StudyLabels(("a", "b", "c"), True, None)
    assert several.present([0.5, 0.49, 0.9]) == ("a", "c")
    assert several.present([0.1, 0.1, 0.1]) == ()
    assert several.negative_in([0.1, 0.2, 0.3]) is None
    assert StudyLabels(("a", "b"), False, "b").negative_in([0.1, 0.9]) == 0.9
