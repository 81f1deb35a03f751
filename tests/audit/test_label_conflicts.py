from dataclasses import replace

import numpy as np
import pytest

from covidmm.audit.checks import Level
from covidmm.audit.label_conflicts import check_conflicts
from covidmm.prepare.near_duplicates import Pair

BOX = (10.0, 10.0, 20.0, 20.0)


def test_labels_that_agree(entry):
    images = entry(1), entry(2, boxes=[BOX]), entry(3, study_id="study2", study_class="typical")
    check = check_conflicts(images, [])
    assert (check.level, check.tables[0].rows) == (Level.OK, [])


@pytest.mark.parametrize(
    ("image", "level", "kind"),
    [
        ({"boxes": [BOX], "study_class": "negative"}, Level.FAULT, "negative study with boxes"),
        ({"study_class": "typical"}, Level.FAULT, "typical study without a box"),
        ({"study_class": "atypical"}, Level.WARNING, "atypical study without a box"),
        ({"study_class": None, "rsna_class": "Lung Opacity"}, Level.FAULT, "Lung Opacity without a box"),
        (
            {"study_class": None, "rsna_class": "Normal", "boxes": [BOX]},
            Level.FAULT,
            "box in an image without Lung Opacity",
        ),
        ({"boxes": [(90, 10, 20, 20)]}, Level.FAULT, "box outside its image or empty"),
        ({"boxes": [(10, 10, 0, 20)]}, Level.FAULT, "box outside its image or empty"),
        ({"boxes": [(10, 10, float("nan"), 20)]}, Level.FAULT, "box outside its image or empty"),
    ],
)
def test_each_contradiction_is_named(entry, image, level, kind):
    check = check_conflicts([entry(1, **image), entry(2)], [])
    assert check.level is level
    assert dict(check.numbers) == {kind: 1}
    assert check.tables[0].rows[0][3] == "study1"


def test_two_classes_of_one_study(entry):
    check = check_conflicts([entry(1, boxes=[BOX]), entry(2, study_id="study1")], [])
    assert dict(check.numbers) == {"study with two classes": 1}


def test_copies_of_which_one_is_positive(entry):
    images = entry(1), entry(2, boxes=[BOX])
    check = check_conflicts(images, [Pair(0, 1, True)])
    assert check.level is Level.WARNING
    assert dict(check.numbers) == {"copies of two labels": 1}


@pytest.fixture
def of_classes(entry):
    """Makes an image with boxes of some classes and, where they are given, labels of the whole image."""

    def make(number, *labels, findings=None):
        one = entry(number, boxes=[BOX] * len(labels), study_class=None)
        categories = ("nodule", "effusion", "mass")
        return replace(one, labels=np.array(labels, np.int64), categories=categories, findings=findings)

    return make


@pytest.mark.parametrize(
    ("labels", "findings", "kind"),
    [
        ((0,), ("No Finding",), "boxes on an image of No Finding"),
        ((0,), ("effusion",), "box of a class that the labels lack"),
        ((0,), ("effusion", "nodule"), None),
        ((2,), ("effusion",), None),  # the labels of no image name it
        ((), ("nodule",), None),
        ((0,), None, None),
    ],
)
def test_boxes_and_labels_of_an_image_are_compared(of_classes, labels, findings, kind):
    check = check_conflicts([of_classes(1, *labels, findings=findings), of_classes(2, 0, findings=("nodule",))], [])
    assert dict(check.numbers) == ({kind: 1} if kind else {})
    assert check.level is (Level.FAULT if kind else Level.OK)


@pytest.mark.parametrize(
    ("first", "second", "copies"), [((0,), (0, 0), 0), ((0,), (1,), 1), ((0, 1), (0,), 1), ((), (), 0)]
)
def test_copies_of_different_classes(of_classes, first, second, copies):
    check = check_conflicts([of_classes(1, *first), of_classes(2, *second)], [Pair(0, 1, True)])
    assert check.numbers.get("copies of two labels", 0) == copies


def test_copies_in_data_sets_of_other_classes_are_compared_by_those_that_both_have(of_classes):
    other = replace(of_classes(2, 0), categories=("nodule", "effusion"))
    check = check_conflicts([of_classes(1, 0, 2), other], [Pair(0, 1, True)])
    assert check.level is Level.OK
