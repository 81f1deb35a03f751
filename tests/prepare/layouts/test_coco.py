import json

import numpy as np
import pytest
from PIL import Image

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import ConfigError, DataError
from covidmm.prepare.layouts.coco import read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.prepare.samples import LabelledBox

SIZE = 120, 90


def picture(path, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(random.integers(0, 255, (size[1], size[0]), dtype=np.uint8)).save(path)


def entry(number, name, **more):
    return {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], **more}


def box(image, category=0, bbox=(10, 20, 30, 40), **more):
    return {"id": 100 * image + category, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


CATEGORIES = ({"id": 0, "name": "opacity"}, {"id": 7, "name": " pleural  effusion "})


def write(path, images, annotations=(), categories=CATEGORIES):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
    path.write_text(json.dumps(content))


def read(raw, **options):
    return read_folder(raw, Options(**options))


def test_gapped_ids_and_images_anywhere(tmp_path):
    picture(tmp_path / "pictures/deep/Thörax 1.png")
    picture(tmp_path / "labels/images/b.jpg")
    boxes = [box(4), box(4, 7, (1.5, 2, 3, 4), iscrowd=1), box(9, 7, attributes={"sure": True})]
    write(tmp_path / "labels/all.json", [entry(4, "Thörax 1.png"), entry(9, "b.jpg", sex="F")], boxes)
    found = read(tmp_path)
    assert not found.skipped
    assert found.categories == ("opacity", "pleural effusion")
    assert list(found.samples) == ["Thörax 1", "b"]
    first, second = found.samples.values()
    assert first.boxes == (LabelledBox((10, 20, 30, 40)), LabelledBox((1.5, 2, 3, 4), 1, True))
    assert second.boxes == (LabelledBox((10, 20, 30, 40), 1, extra={"attributes": {"sure": True}}),)
    assert first.classes == ("opacity", "pleural effusion")
    assert second.extra == {"sex": "F"}


def test_images_of_one_name_have_ids_of_their_paths(tmp_path):
    for folder in ("a", "b"):
        picture(tmp_path / folder / "1.png", seed=len(folder))
    write(tmp_path / "x.json", [entry(1, "a/1.png"), entry(2, "b/1.png")])
    assert list(read(tmp_path).samples) == ["a_1", "b_1"]


def test_files_named_after_splits_give_them(tmp_path):
    for split, number in (("instances_train2017", 1), ("instances_val2017", 2), ("test", 3)):
        picture(tmp_path / f"{number}.png")
        write(tmp_path / f"{split}.json", [entry(number, f"{number}.png")], [box(number)])
    assert [sample.official for sample in read(tmp_path).samples.values()] == ["train", "val", "test"]
    summary = prepare("coco", tmp_path, tmp_path.parent / "out", Options(workers=1, progress=False))
    assert [summary.counts[split]["images"] for split in ("train", "val", "test")] == [1, 1, 1]
    folder = read_prepared(tmp_path.parent / "out")
    assert {split: one.images[0].image_id for split, one in folder.splits.items()} == {
        "train": "1",
        "val": "2",
        "test": "3",
    }
    assert folder.manifest["classes"] == ["opacity", "pleural effusion"]
    assert folder.splits["train"].categories == ("opacity", "pleural effusion")


def test_a_pattern_gives_patients(tmp_path):
    for name in ("p1_a", "p1_b", "p2_a"):
        picture(tmp_path / f"{name}.png")
    write(tmp_path / "x.json", [entry(k, f"{name}.png") for k, name in enumerate(("p1_a", "p1_b", "p2_a"))])
    patients = [sample.patient for sample in read(tmp_path, patient_from=r"^(p\d)_").samples.values()]
    assert patients == ["p1", "p1", "p2"]
    with pytest.raises(ConfigError, match=r"--patient-from '\(': is no regular expression"):
        read(tmp_path, patient_from="(")


@pytest.mark.parametrize(
    ("images", "boxes", "field", "cause"),
    [
        ([entry(1, "a.png")], [box(2)], "annotation 200", "image_id: there is no image 2"),
        ([entry(1, "a.png")], [box(1, 3)], "annotation 103", "category_id: there is no category 3"),
        ([entry(1, "a.png")], [box(1, bbox=(0.1, 0.1, 0.5, 0.5))], "annotation 100", "got shares of the image"),
        ([entry(1, "a.png")], [box(1, bbox=(1, 2, 3))], "annotation 100", "bbox: expected x, y, width, height"),
        ([entry(1, "a.png")], [box(1, bbox=(1, 2, 3, float("nan")))], "annotation 100", "bbox: expected"),
        ([entry(1, "gone.png")], [], "file_name 'gone.png'", "no such file below"),
        ([entry(1, "../x.png")], [], "file_name '../x.png'", "leads out of the folder"),
        ([entry(1, "")], [], "image 1", "file_name: '' is no file name"),
        ([entry(1, "a.png"), entry(1, "b.png")], [], "image 1", "id: is given twice"),
        ([entry(1, "a.png"), entry(2, "a.png", width=7)], [], "file_name 'a.png'", "a second entry for this image"),
    ],
)
def test_what_cannot_be_used_is_a_line(tmp_path, images, boxes, field, cause):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    write(tmp_path / "x.json", images, boxes)
    (issue,) = read(tmp_path).skipped
    assert (issue.file, issue.field) == ("x.json", field)
    assert cause in issue.cause


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", "no COCO file in it"),
        ("x.json", "{", "cannot be read as JSON"),
        ("x.json", '{"images": 1, "annotations": [], "categories": []}', "its images are no list of objects"),
    ],
)
def test_a_folder_without_a_whole_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Effusion", "effusion"), "two classes are called 'Effusion' and 'effusion'"),
        (("Pleural_thickening", "Pleural thickening"), "two classes are called"),
        (("",), "'' is no name of a class"),
        ((3,), "3 is no name of a class"),
    ],
)
def test_names_that_collide_are_refused(tmp_path, names, message):
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    write(tmp_path / "x.json", [], categories=categories)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_an_image_of_another_size_than_its_label_says_is_skipped(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "raw" / f"{name}.png")
    write(tmp_path / "raw/x.json", [entry(1, "a.png"), entry(2, "b.png", width=400)], [box(1), box(2)])
    summary = prepare("coco", tmp_path / "raw", tmp_path / "out", Options(workers=1, progress=False))
    (issue,) = summary.skipped.first
    assert issue == ("x.json", "size of b", "says 400 x 90, the image is 120 x 90")
    assert sum(counts["images"] for counts in summary.counts.values()) == 1


def test_a_validation_image_of_a_training_patient_is_not_trained_on(tmp_path):
    for name in ("p1_a", "p1_b", "p2_a"):
        picture(tmp_path / "raw" / f"{name}.png")
    write(tmp_path / "raw/train.json", [entry(1, "p1_a.png"), entry(2, "p2_a.png")])
    write(tmp_path / "raw/val.json", [entry(1, "p1_b.png")])
    options = Options(workers=1, progress=False, patient_from=r"^(p\d)_")
    summary = prepare("coco", tmp_path / "raw", tmp_path / "out", options)
    assert {split: counts["images"] for split, counts in summary.counts.items()} == {"train": 1, "val": 1, "test": 0}
    (note,) = summary.notes.first
    assert note.file == "p1_a.png"
    assert note.cause == "left out of training: shows the same picture or patient as val image p1_b"
