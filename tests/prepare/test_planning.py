import base64
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidmm.prepare.near_duplicates import thumbnail
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Record
from covidmm.prepare.planning import Planner
from covidmm.prepare.samples import Sample
from covidmm.prepare.splits import TEST

AUTO = Options(workers=1, progress=False)


def sample(image_id, study=None, patient=None, official=None):
    study = study or f"study of {image_id}"
    return Sample(image_id, "", f"{image_id}.png", study, ("typical",), patient=patient, official=official)


def record(picture, patient=None):
    """Of a random picture; the same number is the same picture."""
    coarse = np.random.default_rng(picture).integers(0, 256, (16, 16), dtype=np.uint8)
    pixels = thumbnail(cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC))
    known = dict.fromkeys(Record.__dataclass_fields__)
    thumb = base64.b64encode(pixels.tobytes()).decode()
    return Record(**{**known, "patient": patient, "notes": (), "thumbnail": thumb, "pixels_sha256": str(picture)})


def plan(scratch, *images, options=AUTO):
    """The plan, the samples that are left, and the notes."""
    planner, notes, samples = Planner(scratch, Path("images")), [], scratch.map()
    for one, of_png in images:
        samples[one.image_id] = one
        planner.add(one, of_png)
    return planner.plan(samples, notes, options), list(samples), notes


def test_study_patient_and_picture_tie(scratch):
    images = [
        (sample("a", study="s"), record(1)),
        (sample("b", study="s"), record(2, patient="p")),
        (sample("c", patient="p"), record(3)),
        (sample("d"), record(3)),
        (sample("e"), record(5)),
    ]
    made, kept, notes = plan(scratch, *images)
    assert {name: made.groups.first(name) for name in kept} == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}
    assert made.near_duplicates == 1
    assert len({made.fold(name) for name in "abcd"}) == 1
    assert notes == []


def test_an_id_that_half_the_headers_share_ties_nobody_but_one_of_the_labels_does(scratch):
    images = [(sample(f"i{n}"), record(n, patient="ANON")) for n in range(8)]
    images += [(sample(f"j{n}", patient="ANON"), record(10 + n)) for n in range(2)]
    made, kept, notes = plan(scratch, *images)
    assert {made.groups.first(name) for name in kept} == {*(f"i{n}" for n in range(8)), "j0"}
    ((file, field, cause),) = notes
    assert (file, field) == ("", "PatientID")
    assert cause == "'ANON' stands in 10 of 10 studies: not used for the splits"


def test_training_images_tied_to_a_test_image_are_left_out(scratch):
    images = [
        (sample("a", official="train_val"), record(1)),
        (sample("b", official="test"), record(1)),
        (sample("c", official="train_val"), record(2)),
        (sample("d", official="test"), record(3)),
    ]
    made, kept, notes = plan(scratch, *images)
    assert kept == ["b", "c", "d"]
    assert [made.fold(name) for name in "bd"] == [TEST, TEST]
    assert made.fold("c") != TEST
    assert notes == [("a.png", "split", "left out of training: shows the same picture or patient as test image b")]


def test_lists_that_do_not_name_every_image_do_not_count(scratch):
    first = sample("a", official="test")
    _, kept, notes = plan(scratch, (first, record(1)), (replace(first, image_id="b", official=None), record(1)))
    assert kept == ["a", "b"]
    assert notes == []


@pytest.mark.parametrize(("split", "folds"), [("test", {TEST}), ("val", {3}), ("train", {0, 1, 2, 3, 4})])
def test_a_whole_folder_in_one_split(scratch, split, folds):
    options = Options(split=split, val_fold=3, workers=1, progress=False)
    made, kept, _ = plan(scratch, *((sample(f"i{n}"), record(n)) for n in range(10)), options=options)
    assert {made.fold(name) for name in kept} == folds
