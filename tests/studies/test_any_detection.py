import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covidmm.studies
from covidmm.errors import ConfigError, PluginError
from covidmm.findings import Detections, Study, StudyLabels
from covidmm.inference.core import classify
from covidmm.plugins import PluginManager

CLASSES = ("mass", "nodule", "effusion")
FOUND = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, width=32)), max_size=6)


def build(finds=CLASSES, **options):
    manager = PluginManager([covidmm.studies], installed=False)
    return manager.build_study_classifier({"type": "any_detection", **options}, finds)


def study_of(images):
    boxes = [
        Detections(np.tile([0, 0, 9, 9], (len(one), 1)), [score for _, score in one], [label for label, _ in one])
        for one in images
    ]
    return Study("s", [None] * len(boxes), boxes, CLASSES)


@given(st.lists(FOUND, min_size=1, max_size=3))
def test_a_label_is_as_sure_as_the_surest_box(images):
    found = classify(build(), study_of(images))
    for label in range(3):
        scores = [score for one in images for other, score in one if other == label]
        assert found[label] == max(scores, default=0)
    chosen = classify(build(classes=("effusion", "mass")), study_of(images))
    assert chosen.tolist() == found[[2, 0]].tolist()


def test_a_class_that_nobody_finds_is_refused():
    assert StudyLabels.of(build()) == StudyLabels(CLASSES, multi_label=True, negative=None)
    with pytest.raises(ConfigError, match=r"study: classes has 'masses', the ensemble finds .*did you mean 'mass'"):
        build(classes=("masses",))
    with pytest.raises(PluginError, match="study classifier 'any_detection': classes: a name stands twice"):
        build(classes=("mass", "mass"))
