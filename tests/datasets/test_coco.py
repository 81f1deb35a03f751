import contextlib
import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from covidmm.datasets.coco import Image, check_boxes, data_sha256, document, table
from covidmm.datasets.conversion import Record
from covidmm.datasets.samples import Issue, Sample

RECORD = Record(
    "s/a.png",
    "",
    3,
    "0",
    512,
    256,
    2048,
    1024,
    "MONOCHROME1",
    "PA",
    "F",
    40,
    "DX",
    "p",
    (),
    "",
    "Acme",
    "CHEST",
    12,
    None,
)
SAMPLE = Sample("a", Path("a.dcm"), "s/a.png", "s", ("typical",), "typical", label_file="labels.csv")


def check(*boxes):
    return check_boxes([(replace(SAMPLE, boxes=boxes), RECORD)])


def test_a_box_inside_is_kept():
    checked = check((10.0, 20.0, 300.0, 400.0))
    assert checked.images[0].boxes == [(10.0, 20.0, 300.0, 400.0)]
    assert checked.skipped == checked.notes == []


def test_a_box_that_sticks_out_is_cut_with_a_note():
    checked = check((2000.0, 900.0, 100.0, 200.0))
    assert checked.images[0].boxes == [(2000.0, 900.0, 48.0, 124.0)]
    ((file, field, note),) = checked.notes
    assert (file, field) == ("labels.csv", "boxes[0] of a")
    assert note.startswith("cut to the 2048 x 1024 image: x 2000 y 900 width 100 height 200 became")


@pytest.mark.parametrize(
    ("box", "cause"),
    [
        ((2048.0, 0.0, 10.0, 10.0), "outside the 2048 x 1024 image"),
        ((10.0, 10.0, 0.0, 10.0), "zero area"),
        ((10.0, 10.0, 10.0, -4.0), "zero area"),
        ((10.0, 10.0, 3.0, 50.0), "thinner than a pixel of the PNG: 0.75 x 12.5"),
    ],
)
def test_a_useless_box_is_skipped_and_an_image_without_its_boxes_too(box, cause):
    checked = check(box, (1.0, 1.0, 40.0, 40.0))
    assert checked.images[0].boxes == [(1.0, 1.0, 40.0, 40.0)]
    assert checked.skipped[0][:2] == ("labels.csv", "boxes[0] of a")
    assert cause in checked.skipped[0].cause
    alone = check(box)
    assert alone.images == []
    assert alone.skipped[1] == ("s/a.png", "boxes", "none of its boxes can be used")


def test_notes_of_the_reader_are_passed_on():
    checked = check_boxes([(SAMPLE, replace(RECORD, notes=("first of 3 frames",)))])
    assert checked.notes == [("s/a.png", "pixels", "first of 3 frames")]


def test_the_document_is_read_by_pycocotools(tmp_path):
    image = Image(SAMPLE, RECORD, [(400.0, 200.0, 800.0, 100.0), (0.0, 0.0, 2048.0, 1024.0)], "p", fold=3)
    (tmp_path / "train.json").write_text(json.dumps(document([image], {"a": 7}, ("opacity",), {"split": "train"})))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "train.json"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "opacity"}]
    assert coco.loadImgs([7]) == [
        {
            "id": 7,
            "file_name": "s/a.png",
            "width": 512,
            "height": 256,
            "original_width": 2048,
            "original_height": 1024,
            "image_id": "a",
            "study_id": "s",
            "study_class": "typical",
            "fold": 3,
            "patient": "p",
            "photometric": "MONOCHROME1",
            "view": "PA",
            "sex": "F",
            "age": 40,
            "modality": "DX",
            "manufacturer": "Acme",
            "body_part": "CHEST",
            "bits_stored": 12,
            "transfer_syntax": None,
        }
    ]
    boxes = coco.loadAnns(coco.getAnnIds(imgIds=[7]))
    assert [box["bbox"] for box in boxes] == [[100.0, 50.0, 200.0, 25.0], [0.0, 0.0, 512.0, 256.0]]
    assert [box["area"] for box in boxes] == [5000.0, 131072.0]
    assert len({box["id"] for box in boxes}) == 2
    assert min(box["id"] for box in boxes) >= 1


def test_the_digest_sees_pixels_and_annotations():
    image = Image(SAMPLE, RECORD, [], None)
    other = Image(SAMPLE, replace(RECORD, pixels_sha256="1"), [], None)
    digests = {
        data_sha256([image], {"train": b"1"}),
        data_sha256([other], {"train": b"1"}),
        data_sha256([image], {"train": b"2"}),
        data_sha256([image], {"val": b"1"}),
    }
    assert len(digests) == 4


def test_issues_as_csv():
    issues = [Issue("b", "f", 'says "no", twice'), Issue("a", "f", "x")]
    rows = list(csv.reader(io.StringIO(table(issues, "cause").decode())))
    assert rows == [["file", "field", "cause"], ["a", "f", "x"], ["b", "f", 'says "no", twice']]
