import shutil

import pytest

from covidmm.audit.audited_images import leakage_groups, placeholder_patients, read_folders
from covidmm.errors import DataError


def test_reads_every_split_with_boxes_and_classes(clean, plants):
    (data,) = read_folders([clean])
    entries = data.images
    stored = plants.annotations(clean)
    assert len(entries) == sum(len(content["images"]) for content in stored.values())
    assert sum(len(entry.boxes) for entry in entries) == sum(len(content["annotations"]) for content in stored.values())
    assert {entry.split for entry in entries} == {"train", "val", "test"}
    assert all(entry.path.is_file() and entry.dataset == "clean" for entry in entries)
    assert all(entry.positive == (entry.classes != ("negative",)) for entry in entries)


def test_folders_of_one_name_get_longer_names(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "clean")
    names = {one.images[0].dataset for one in read_folders([clean, tmp_path / "clean"])}
    assert len(names) == 2
    assert all(name.endswith("/clean") for name in names)


def test_refuses_a_folder_that_is_not_prepared_or_named_twice(clean, tmp_path):
    with pytest.raises(DataError, match="holds no annotations"):
        read_folders([tmp_path])
    with pytest.raises(DataError, match="named twice"):
        read_folders([clean, clean])


def test_an_image_belongs_with_its_study_and_its_patient(entry):
    entries = [entry(1, patient="p"), entry(2, patient="p"), entry(3, patient=None), entry(4, study_id="study3")]
    keys = leakage_groups(entries)
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_patient_id_that_most_studies_share_is_a_placeholder(entry):
    entries = [entry(number, patient="ANON") for number in range(8)] + [entry(9, patient="p")]
    assert placeholder_patients(entries) == {("a", "ANON"): 8}
    assert len(set(leakage_groups(entries))) == 9
