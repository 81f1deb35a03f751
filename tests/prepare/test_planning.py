import base64
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidmm.prepare.near_duplicates import thumbnail
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Record
from covidmm.prepare.planning import plan as plan_folds
from covidmm.prepare.samples import Sample
from covidmm.prepare.splits import TEST
from covidmm.radiograph import Header

AUTO = Options(workers=1, progress=False)


def sample(image_id, study=None, patient=None, official=None):
    study = study or f"study of {image_id}"
    return Sample(image_id, Path(), f"{image_id}.png", study, ("typical",), patient=patient, official=official)


def record(picture, patient=None):
    """Of a random picture; the same number is the same picture."""
    coarse = np.random.default_rng(picture).integers(0, 256, (16, 16), dtype=np.uint8)
    pixels = thumbnail(cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC))
    thumb = base64.b64encode(pixels.tobytes()).decode()
    return Record("", "", 0, str(picture), 32, 32, Header(Path(), 32, 32, patient=patient), (), thumb)


def plan(*images, options=AUTO):
    """The plan and the notes."""
    samples = {sample.image_id: sample for sample, _ in images}
    records = {sample.file_name: record for sample, record in images}
    thumbnails = np.stack([record.pixels() for _, record in images])
    notes = []
    return plan_folds(samples, records, thumbnails, Path("images"), notes, options), notes


def test_study_patient_and_picture_tie():
    images = [
        (sample("a", study="s"), record(1)),
        (sample("b", study="s"), record(2, patient="p")),
        (sample("c", patient="p"), record(3)),
        (sample("d"), record(3)),
        (sample("e"), record(5)),
    ]
    made, notes = plan(*images)
    assert list(made.folds) == ["a", "b", "c", "d", "e"]
    assert made.near_duplicates == 1
    assert len({made.folds[name] for name in "abcd"}) == 1
    assert made.folds["e"] != made.folds["a"]
    assert notes == []


def test_an_id_that_half_the_headers_share_joins_no_studies_but_one_of_the_labels_does():
    images = [(sample(f"i{n}"), record(n, patient="ANON")) for n in range(8)]
    images += [(sample(f"j{n}", patient="ANON"), record(10 + n)) for n in range(2)]
    made, notes = plan(*images)
    assert made.folds["j0"] == made.folds["j1"]
    assert len({made.folds[f"i{n}"] for n in range(8)}) >= 5
    ((file, field, cause),) = notes
    assert (file, field) == ("", "PatientID")
    assert cause == "'ANON' stands in 10 of 10 studies: not used for the splits"


def test_training_images_tied_to_a_test_image_are_left_out():
    images = [
        (sample("a", official="train_val"), record(1)),
        (sample("b", official="test"), record(1)),
        (sample("c", official="train_val"), record(2)),
        (sample("d", official="test"), record(3)),
    ]
    made, notes = plan(*images)
    assert list(made.folds) == ["b", "c", "d"]
    assert [made.folds[name] for name in "bd"] == [TEST, TEST]
    assert made.folds["c"] != TEST
    assert notes == [("a.png", "split", "left out of training: shows the same picture or patient as test image b")]


def test_lists_that_do_not_name_every_image_do_not_count():
    first = sample("a", official="test")
    made, notes = plan((first, record(1)), (replace(first, image_id="b", official=None), record(1)))
    assert list(made.folds) == ["a", "b"]
    assert notes == []


@pytest.mark.parametrize(("split", "folds"), [("test", {TEST}), ("val", {3}), ("train", {0, 1, 2, 3, 4})])
def test_a_whole_folder_in_one_split(split, folds):
    options = Options(split=split, val_fold=3, workers=1, progress=False)
    made, _ = plan(*((sample(f"i{n}"), record(n)) for n in range(10)), options=options)
    assert set(made.folds.values()) == folds
