import io

import numpy as np
import pydicom
import pytest
from PIL import Image

from covidmm.web.schemas import AttentionMap, Prediction
from covidmm.web.web_pictures import View, annotated, class_looks, colours, preview, sample_file


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (64, 64)])
def test_a_preview_gives_the_same_grey_values_to_another_reader(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    picture = Image.open(io.BytesIO(preview(pixels)))
    assert picture.mode == "L"
    assert (np.asarray(picture) == pixels).all()


def test_the_sample_is_an_anonymous_dicom_and_always_the_same():
    dataset = pydicom.dcmread(io.BytesIO(sample_file()))
    assert "no patient" in dataset.DeidentificationMethod
    assert min(dataset.Rows, dataset.Columns) > 800
    assert sample_file() is sample_file()


def rgb(colour):
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


@pytest.fixture(scope="module")
def prediction():
    """One image of 80 x 100 with a box of the ensemble, and of one of its two members."""
    box, other = (
        {"name": "opacity", "score": score, "x": 10, "y": 10, "width": 40, "height": 30} for score in (0.5, 0.4)
    )
    image = {"number": 1, "width": 100, "height": 80, "fused": [box], "members": {"a": [], "b": [other]}, "notes": []}
    provenance = {"config_resolved_sha256": "", "members": {}, "study_checkpoints_sha256": [], "versions": {}}
    return Prediction.model_validate(
        {
            "version": "1",
            "config": "c",
            "detector": "ensemble",
            "strategy": "wbf",
            "images": [image],
            "study": None,
            "submission": [],
            "seconds": 0,
            "provenance": provenance,
        }
    )


def drawn(prediction, **view):
    pixels = np.tile(np.arange(100, dtype=np.uint8), (80, 1))
    return np.asarray(Image.open(io.BytesIO(annotated(prediction, pixels, View(**view)))))


def test_an_annotated_picture_has_the_boxes_that_are_shown(prediction):
    shown = colours(["a", "b"])

    def lines(name, **view):
        return int((drawn(prediction, **view) == rgb(shown[name].line)).all(-1).sum())

    assert lines("ensemble") > 500
    assert lines("ensemble", fused=False) == lines("ensemble", threshold=0.6) == 0
    assert lines("b") == 0
    # the second member has the second colour, though the first one is not shown
    assert lines("b", members=["b"]) > 500
    assert lines("a", members=["b"]) == 0


def test_an_annotated_picture_has_the_window_and_the_heat_of_the_page(prediction):
    plain, dark, inverted = (drawn(prediction)[:10], drawn(prediction, level=255)[:10], drawn(prediction, invert=True))
    assert dark.mean() < plain.mean() < inverted[:10].mean()
    assert np.ptp(plain.astype(int), axis=2).max() == 0
    attention = AttentionMap(study_class="typical", region=[0, 0, 1, 1], rows=[[1.0, 1.0], [1.0, 1.0]])
    image = prediction.images[0].model_copy(update={"attention": attention})
    heated = drawn(prediction.model_copy(update={"images": [image]}))[:10]
    assert np.ptp(heated.astype(int), axis=2).max() > 50


def test_an_annotated_picture_has_the_colours_of_classes_whatever_was_found(prediction):
    names = [f"finding {number}" for number in range(14)]
    looks = {look.name: look for look in class_looks(names)}
    assert len({(look.line, *look.corners) for look in looks.values()}) == 14
    boxes = [
        prediction.images[0].fused[0].model_copy(update={"name": name, "x": x})
        for name, x in (("finding 3", 5), ("finding 9", 55))
    ]

    def painted(own, **view):
        image = prediction.images[0].model_copy(update={"fused": own, "members": {}})
        content = annotated(
            prediction.model_copy(update={"images": [image]}), np.zeros((80, 100), np.uint8), View(**view), names
        )
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        return [int((pixels == rgb(looks[name].line)).all(-1).sum()) > 500 for name in ("finding 3", "finding 9")]

    assert painted(boxes) == [True, True]
    assert painted(boxes[:1]) == painted(boxes, hidden=["finding 9"]) == [True, False]
    assert painted(boxes[1:]) == [False, True]
    assert class_looks(["opacity"]) == []
