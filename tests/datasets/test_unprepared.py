import json

import pytest

from covidmm.datasets.unprepared import UNDIVIDED, read_data_folder
from covidmm.errors import DataError
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


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


def sizes(data):
    return {name: len(split.images) for name, split in data.splits.items()}


def test_images_stay_in_the_splits_of_their_files_and_nothing_is_written(tmp_path, make):
    folder = coco(tmp_path / "hospital", make, instances_train=("a", "b"), instances_val=("c",), instances_test=("d",))
    # what prepare would leave out of training: it shows what a test image does
    (folder / "pictures/b.png").write_bytes((folder / "pictures/d.png").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    data = read_data_folder(folder)
    assert sizes(data) == {"train": 2, "val": 1, "test": 1}
    assert (data.name, data.images[0].categories, data.manifest) == ("hospital", ("mass",), {})
    assert data.reading == ([], [])
    assert sorted(tmp_path.rglob("*")) == before


def test_files_without_a_name_of_a_split_and_training_without_validation(tmp_path, make):
    assert sizes(read_data_folder(coco(tmp_path / "one", make, labels=("a", "b")))) == {UNDIVIDED: 2}
    assert sizes(read_data_folder(coco(tmp_path / "two", make, train=("a",), test=("b",)))) == {"train": 1, "test": 1}


def test_what_cannot_be_used_and_what_is_changed_is_listed(tmp_path, make):
    folder = coco(tmp_path / "x", make, train=("a", "b", "broken"), test=("a2", "gone"))
    (folder / "pictures/gone.png").unlink()
    (folder / "pictures/broken.png").write_bytes(b"")
    path = folder / "annotations/train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [40, 3, 10, 20]  # the image is 48 wide
    path.write_text(json.dumps(content))
    data = read_data_folder(folder)
    assert sizes(data) == {"train": 2, "test": 1}
    assert [issue[:2] for issue in data.reading.skipped] == [
        ("test.json", "file_name (image 1)"),
        ("pictures/broken.png", "pixels"),
    ]
    assert [issue.cause for issue in data.reading.changed] == [
        "cut to the 48 x 60 image: x 40 y 3 width 10 height 20 became x 40 y 3 width 8 height 20"
    ]
    assert data.images[0].boxes.tolist() == [[40, 3, 48, 23]]


def test_an_image_in_two_splits_is_listed(tmp_path, make):
    data = read_data_folder(coco(tmp_path / "x", make, train=("a", "b"), test=("a", "c")))
    assert sizes(data) == {"train": 1, "test": 1}
    assert "puts it into another split: test and train" in data.reading.skipped[0].cause


def test_images_are_as_a_prepared_folder_has_them(tmp_path, make):
    folder = coco(tmp_path / "raw", make, train=("a", "b"), val=("c",), test=("d", "e"))
    make.dicom(folder / "pictures/b.png", make.picture(5), patient="p 1")
    path = folder / "annotations/train.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"age": "old", "study_class": "odd", "labels": 3}
    path.write_text(json.dumps(content))
    prepare("coco", folder, tmp_path / "out", Options(workers=1, progress=False, split="train"))
    own = {image.image_id: image for image in read_data_folder(folder).images}
    keys = ("patient", "photometric", "modality", "bits_stored", "original_width", "original_height")
    for entry in json.loads((tmp_path / "out/annotations/train.json").read_text())["images"]:
        image = own[entry["image_id"]]
        assert {key: image.coco[key] for key in keys} == {key: entry[key] for key in keys}
        assert image.path == folder / image.coco["file_name"]
    assert own["b"].patient == "p 1"
    assert (own["a"].study_class, own["a"].findings, own["a"].coco["age"]) == (None, None, None)


def test_a_folder_that_is_neither_says_both(tmp_path):
    with pytest.raises(DataError, match=r"holds no annotations/train\.json.*; nor is it a COCO data set: .*no COCO"):
        read_data_folder(tmp_path)


def test_a_prepared_folder_is_taken_as_it_is(tmp_path, make):
    prepare("siim", make.siim(tmp_path / "raw", 4), tmp_path / "out", Options(workers=1, progress=False))
    data = read_data_folder(tmp_path / "out")
    assert data.reading is None
    assert data.manifest["layout"] == "siim"
    (tmp_path / "out/annotations/val.json").write_text("{}")
    with pytest.raises(DataError, match=r"val\.json: is no COCO file, has no annotations, categories, images$"):
        read_data_folder(tmp_path / "out")
