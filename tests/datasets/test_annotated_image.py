import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage


def annotated(boxes=(), **values):
    boxes = np.array(boxes, float).reshape(-1, 4)
    return AnnotatedImage("a.png", "a", "s", boxes, np.zeros(len(boxes), int), **values)


def test_boxes_of_a_picture_that_was_not_read_are_those_of_the_original():
    assert annotated([[1, 2, 3, 4]]).original_boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("image", "classes", "positive"),
    [
        (annotated(study_class="negative"), ("negative",), False),
        (annotated(coco={"rsna_class": "Normal"}), ("Normal",), False),
        (annotated(findings=("No Finding",)), ("No Finding",), False),
        (annotated(findings=("Mass", "Edema")), ("Mass", "Edema"), True),
        (annotated([[0, 0, 1, 1]]), ("opacity",), True),
        (annotated(), ("no opacity",), False),
    ],
)
def test_classes_of_each_layout(image, classes, positive):
    assert (image.classes, image.positive) == (classes, positive)


def test_boxes_in_pixels_of_the_original():
    image = annotated([[1, 2, 3, 4]], size=(10, 20), original_size=(30, 40))
    assert image.original_boxes.tolist() == [[2, 6, 6, 12]]
