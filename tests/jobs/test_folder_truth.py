import csv
import shutil

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError
from covidmm.jobs.folder_truth import read_truth


def test_raw_and_prepared_labels_agree_in_pixels_of_the_original(random_ensemble):
    raw = read_truth(read_image_folder(random_ensemble.raw))
    for split in ("train", "val", "test"):
        prepared = read_truth(read_image_folder(random_ensemble.prepared, split))
        assert prepared.boxes
        for image_id, boxes in prepared.boxes.items():
            assert boxes == pytest.approx(raw.boxes[image_id], abs=0.01)
        assert prepared.studies.items() <= raw.studies.items()
    assert sum(map(len, raw.boxes.values())) > 20


def test_an_image_without_opacities_has_an_empty_array(random_ensemble):
    truth = read_truth(read_image_folder(random_ensemble.raw))
    empty = [boxes for boxes in truth.boxes.values() if not len(boxes)]
    assert empty
    assert all(boxes.shape == (0, 4) and boxes.dtype == np.float64 for boxes in empty)


def test_labels_that_do_not_fit_the_images_are_refused(random_ensemble, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(random_ensemble.raw, raw)
    gone = sorted((raw / "train").rglob("*.dcm"))[0]
    gone.unlink()
    with pytest.raises(DataError, match=f"1 of its ids have no image in the folder, such as '{gone.stem}'"):
        read_truth(read_image_folder(raw))
    with (raw / "train_image_level.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if not row[0].startswith(gone.stem)]
    with (raw / "train_image_level.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    with pytest.raises(DataError, match="has no usable row for 1 of 24 ids"):
        read_truth(read_image_folder(raw))
    (raw / "train_study_level.csv").unlink()
    with pytest.raises(DataError, match="cannot be scored"):
        read_truth(read_image_folder(raw))
