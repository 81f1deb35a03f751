import csv
import shutil

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError
from covidmm.findings import OPACITY, StudyLabels
from covidmm.jobs.folder_truth import read_truth, study_truth


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


def test_studies_have_the_labels_of_their_images_boxes_and_class(random_ensemble):
    folder = read_image_folder(random_ensemble.prepared, "train")
    truth = read_truth(folder, OPACITY)
    boxed = {image.study_id for image in truth.values() if len(image.boxes)}
    several = StudyLabels(("opacity", "typical"), True, None)
    found = study_truth(folder, truth, several)
    classes = {image.study_id: image.study_class for image in truth.values()}
    assert found == {
        study: tuple(name for name, there in (("opacity", study in boxed), ("typical", one == "typical")) if there)
        for study, one in classes.items()
    }
    # raw, by the same tables
    raw = read_image_folder(random_ensemble.raw)
    of_raw = study_truth(raw, read_truth(raw, ("nodule", "opacity")), several)
    assert {study: of_raw[study] for study in found} == found


def test_what_the_folder_does_not_know_of_studies_is_said(random_ensemble):
    folder = read_image_folder(random_ensemble.prepared, "train")
    truth = read_truth(folder, OPACITY)
    with pytest.warns(UserWarning, match="studies: no label mass, not scored"):
        assert study_truth(folder, truth, StudyLabels(("mass", "clear"), negative="clear")) == {}
    with pytest.warns(UserWarning, match="studies have not exactly one of the classes, such as '.*': not scored"):
        found = study_truth(folder, truth, StudyLabels(("opacity", "typical"), negative=None))
    assert set(found.values()) == {("opacity",)}
    one = study_truth(folder, truth, StudyLabels(("opacity", "clear"), negative="clear"))
    assert len(one) == len({image.study_id for image in truth.values()})
    assert set(one.values()) == {("opacity",), ("clear",)}
