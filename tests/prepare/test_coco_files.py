import contextlib
import csv
import hashlib
import io
import json
import os
from dataclasses import replace

import pytest
from pycocotools.coco import COCO

from covidmm.prepare.coco_files import Document, Image, check_boxes, write_table
from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Issue, Sample
from covidmm.utils.fileio import json_bytes

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
SAMPLE = Sample("a", "a.dcm", "s/a.png", "s", ("typical",), "typical", label_file="labels.csv")


def check(*boxes):
    """What is kept, skipped and noted."""
    skipped, notes = [], []
    return check_boxes(replace(SAMPLE, boxes=boxes), RECORD, skipped, notes), skipped, notes


def write_document(path, images, categories=("opacity",)):
    with path.open("wb") as file, path.with_suffix(".part").open("w+b") as annotations:
        document = Document(file, annotations, categories, {"split": path.stem})
        for number, image in images:
            document.add(image, number)
        return document.end()


def test_a_box_inside_is_kept():
    assert check((10.0, 20.0, 300.0, 400.0)) == (((10.0, 20.0, 300.0, 400.0),), [], [])


def test_a_box_that_sticks_out_is_cut_with_a_note():
    kept, _, ((file, field, note),) = check((2000.0, 900.0, 100.0, 200.0))
    assert kept == ((2000.0, 900.0, 48.0, 124.0),)
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
    kept, skipped, _ = check(box, (1.0, 1.0, 40.0, 40.0))
    assert kept == ((1.0, 1.0, 40.0, 40.0),)
    assert skipped[0][:2] == ("labels.csv", "boxes[0] of a")
    assert cause in skipped[0].cause
    kept, skipped, _ = check(box)
    assert kept is None
    assert skipped[1] == ("s/a.png", "boxes", "none of its boxes can be used")


def test_notes_of_the_reader_are_passed_on():
    notes = []
    check_boxes(SAMPLE, replace(RECORD, notes=("first of 3 frames",)), [], notes)
    assert notes == [("s/a.png", "pixels", "first of 3 frames")]


def test_the_document_is_read_by_pycocotools(tmp_path):
    boxes = ((400.0, 200.0, 800.0, 100.0), (0.0, 0.0, 2048.0, 1024.0))
    write_document(tmp_path / "train.json", [(7, Image(replace(SAMPLE, boxes=boxes), RECORD, fold=3))])
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


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_document_is_written_as_the_whole_would_be(tmp_path, count):
    boxes = ((400.0, 200.0, 800.0, 100.0), (0.0, 0.0, 2048.0, 1024.0))
    images = [(n + 1, Image(replace(SAMPLE, image_id=f"é{n}", boxes=boxes[:n]), RECORD, n)) for n in range(count)]
    path = tmp_path / "train.json"
    digest = write_document(path, images, ("opacity", "other"))
    assert path.read_bytes() == json_bytes(json.loads(path.read_text()))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(json.loads(path.read_text())["annotations"]) == [0, 0, 0, 3][count]


def test_issues_as_csv(tmp_path):
    path = tmp_path / "skipped.csv"
    for _ in range(2):
        write_table(path, [Issue("a", "f", "x"), Issue("b", "f", 'says "no", twice')], "cause")
        os.utime(path, ns=(1, 1))
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert rows == [["file", "field", "cause"], ["a", "f", "x"], ["b", "f", 'says "no", twice']]
    write_table(path, [], "cause")
    assert path.read_text() == "file,field,cause\n"
