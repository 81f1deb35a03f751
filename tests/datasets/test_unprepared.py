import json

import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.datasets.unprepared import prepared_folders
from covidmm.errors import DataError


def coco(folder, make, **files):
    """A COCO export: images beside annotation files, with a box on every first image."""
    for number, (name, images) in enumerate(files.items()):
        for place, image in enumerate(images):
            make.png(folder / "pictures" / f"{image}.png", 10 * number + place)
        content = {
            "images": [{"id": k, "file_name": f"{image}.png"} for k, image in enumerate(images)],
            "annotations": [{"id": 3, "image_id": 0, "category_id": 5, "bbox": [2, 3, 10, 20]}],
            "categories": [{"id": 5, "name": "mass"}],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_splits_of_coco_files_are_those_of_their_names_and_nothing_is_written(tmp_path, make, capsys):
    folder = coco(tmp_path / "hospital", make, instances_train=("a", "b"), instances_val=("c",))
    before = sorted(tmp_path.rglob("*"))
    with prepared_folders([folder], workers=1) as (copy,):
        data = read_prepared(copy)
        assert {name: len(split.images) for name, split in data.splits.items()} == {"train": 2, "val": 1, "test": 0}
        assert (data.name, data.images[0].categories) == ("hospital", ("mass",))
    assert not copy.exists()
    assert sorted(tmp_path.rglob("*")) == before
    assert "is not prepared; its COCO files are read" in capsys.readouterr().out


def test_without_split_names_all_images_are_one_split(tmp_path, make, capsys):
    folder = coco(tmp_path / "hospital", make, labels=("a", "b", "c"))
    (folder / "pictures/c.png").write_bytes(b"")
    with prepared_folders([folder, folder], workers=1) as copies:
        assert [len(read_prepared(copy).splits["train"].images) for copy in copies] == [2, 2]
    out = capsys.readouterr().out
    assert "all in one split: it names none" in out
    assert "note: 1 files or labels were skipped" in out


def test_a_folder_that_is_neither_says_both(tmp_path):
    with (
        pytest.raises(
            DataError, match=r"holds no annotations/train\.json.*; nor is it a COCO data set: .*no COCO file"
        ),
        prepared_folders([tmp_path], workers=1),
    ):
        pass


def test_a_prepared_folder_is_taken_as_it_is(random_ensemble, capsys):
    with prepared_folders([random_ensemble.prepared]) as (folder,):
        assert folder == random_ensemble.prepared
    assert capsys.readouterr().out == ""
