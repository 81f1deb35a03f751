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
