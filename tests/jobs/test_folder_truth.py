import csv
import shutil

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError
from covidmm.findings import OPACITY
from covidmm.jobs.folder_truth import read_truth


def test_raw_and_prepared_labels_agree_in_pixels_of_the_original(random_ensemble):
    raw = read_truth(read_image_folder(random_ensemble.raw), OPACITY)
    for split in ("train", "val", "test"):
        prepared = read_truth(read_image_folder(random_ensemble.prepared, split), OPACITY)
        assert prepared
        for image_id, image in prepared.items():
            assert image.original_boxes == pytest.approx(raw[image_id].original_boxes, abs=0.01)
            assert (image.study_id, image.study_class) == (raw[image_id].study_id, raw[image_id].study_class)
    assert sum(len(image.boxes) for image in raw.values()) > 20


def test_every_image_of_the_folder_has_its_truth(random_ensemble):
    for folder in (read_image_folder(random_ensemble.raw), read_image_folder(random_ensemble.prepared, "train")):
        assert read_truth(folder, OPACITY).keys() == {image.image_id for image in folder.images}


def test_an_image_without_opacities_has_an_empty_array(random_ensemble):
    truth = read_truth(read_image_folder(random_ensemble.raw), OPACITY)
    empty = [image.original_boxes for image in truth.values() if not len(image.boxes)]
    assert empty
    assert all(boxes.shape == (0, 4) and boxes.dtype == np.float64 for boxes in empty)


def test_labels_that_do_not_fit_the_images_are_refused(random_ensemble, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(random_ensemble.raw, raw)
    gone = sorted((raw / "train").rglob("*.dcm"))[0]
    gone.unlink()
    with pytest.raises(DataError, match=f"1 of its ids have no image in the folder, such as '{gone.stem}'"):
        read_truth(read_image_folder(raw), OPACITY)
    with (raw / "train_image_level.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if not row[0].startswith(gone.stem)]
    with (raw / "train_image_level.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    with pytest.raises(DataError, match="has no usable row for 1 of 24 ids"):
        read_truth(read_image_folder(raw), OPACITY)
    (raw / "train_study_level.csv").unlink()
    with pytest.raises(DataError, match="cannot be scored"):
        read_truth(read_image_folder(raw), OPACITY)
