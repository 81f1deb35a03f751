import contextlib
import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from covidmm.prepare.coco_files import Image, check_boxes, document, write_table
from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Issue, LabelledBox, Sample
from covidmm.radiograph import PREPARED_FIELDS, Header

HEADER = Header(
    Path(),
    height=1024,
    width=2048,
    photometric="MONOCHROME1",
    view="PA",
    sex="F",
    age=40,
    modality="DX",
    manufacturer="Acme",
    body_part="CHEST",
    bits_stored=12,
    patient="p",
)
RECORD = Record("s/a.png", "", 3, "0", 512, 256, HEADER, (), "")
SAMPLE = Sample("a", Path("a.dcm"), "s/a.png", "s", ("typical",), "typical", label_file="labels.csv")


def check(*boxes):
    """What is kept, skipped and noted."""
    skipped, notes = [], []
    kept = check_boxes(replace(SAMPLE, boxes=tuple(map(LabelledBox, boxes))), RECORD, skipped, notes)
    return kept and tuple(drawn.box for drawn in kept), skipped, notes


def test_a_box_inside_is_kept():
    assert check((10.0, 20.0, 300.0, 400.0)) == (((10.0, 20.0, 300.0, 400.0),), [], [])


def test_shares_become_pixels_of_the_original():
    sample = replace(SAMPLE, boxes=(LabelledBox((0.25, 0.5, 0.125, 0.25), 3, shares=True),))
    assert check_boxes(sample, RECORD, [], []) == (LabelledBox((512.0, 512.0, 256.0, 256.0), 3),)


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
    image = Image(7, replace(SAMPLE, boxes=tuple(map(LabelledBox, boxes))), RECORD, fold=3)
    (tmp_path / "train.json").write_bytes(document([image], ("opacity",), {"split": "train"}))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "train.json"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "opacity", "supercategory": ""}]
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


def test_labels_win_over_the_header_in_the_place_of_its_key():
    image = Image(1, replace(SAMPLE, extra={"labels": ["Mass"], "age": 41}), RECORD, fold=0)
    (entry,) = json.loads(document([image], ("opacity",), {}))["images"]
    assert entry["age"] == 41
    assert list(entry)[10:] == ["patient", *PREPARED_FIELDS, "labels"]


def test_issues_as_csv(tmp_path):
    path = tmp_path / "skipped.csv"
    for _ in range(2):
        write_table(path, [Issue("b", "f", 'says "no", twice'), Issue("a", "f", "x")], "cause")
        os.utime(path, ns=(1, 1))
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert rows == [["file", "field", "cause"], ["a", "f", "x"], ["b", "f", 'says "no", twice']]
    write_table(path, [], "cause")
    assert path.read_text() == "file,field,cause\n"


def test_class_crowd_and_other_entries_of_a_box_are_written():
    boxes = (
        LabelledBox((400.0, 200.0, 800.0, 100.0), label=1, extra={"readers": 2}),
        LabelledBox((0.0, 0.0, 40.0, 40.0), crowd=True),
    )
    image = Image(7, replace(SAMPLE, boxes=boxes), RECORD, fold=3)
    content = json.loads(document([image], ("opacity", "effusion"), {}))
    assert [one["name"] for one in content["categories"]] == ["opacity", "effusion"]
    found = [(one["category_id"], one["iscrowd"], one.get("readers")) for one in content["annotations"]]
    assert found == [(2, 0, 2), (1, 1, None)]
