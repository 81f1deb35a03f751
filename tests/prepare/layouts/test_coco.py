import json

import pytest

from covidmm.errors import ConfigError, DataError
from covidmm.prepare.layouts.coco import read_folder
from covidmm.prepare.options import Options

OPTIONS = Options()
TWO = ("a.png", "b.png")
BOX = [4.5, 6, 10.25, 20]


def content(*annotations, name="a.png", categories=((0, "opacity"), (9, "nodule")), **more):
    """A COCO file of one image, with the id 5."""
    return {
        "images": [{"id": 5, "file_name": name, "width": 48, "height": 60, **more}],
        "annotations": [
            {"id": 1 + k, "image_id": 5, "category_id": 9, "bbox": BOX, **one} for k, one in enumerate(annotations)
        ],
        "categories": [{"id": number, "name": text} for number, text in categories],
    }


def folder_of(tmp_path, make, files, images=("a.png",), options=OPTIONS):
    for seed, name in enumerate(images):
        make.png(tmp_path / name, seed)
    for name, one in files.items():
        (tmp_path / name).write_text(one if isinstance(one, str) else json.dumps(one), encoding="utf-8")
    return read_folder(tmp_path, options)


def test_boxes_classes_and_crowds(tmp_path, make):
    files = {"labels.json": content({"iscrowd": 1}, {"category_id": 0, "attributes": {"side": "left"}})}
    folder = folder_of(tmp_path, make, files, ["deep/a.png"])
    assert folder.categories == ("opacity", "nodule")
    (sample,) = folder.samples.values()
    assert sample.boxes == (
        ((4.5, 6, 10.25, 20), 1, True, {}, False),
        ((4.5, 6, 10.25, 20), 0, False, {"attributes": {"side": "left"}}, False),
    )
    assert (sample.size, sample.official, sample.classes) == ((60, 48), None, ("nodule", "opacity"))


def test_names_beyond_ascii_are_found_composed_or_not(tmp_path, make):
    folder = folder_of(tmp_path, make, {"labels.json": content({}, name="e\u0301tude.png")}, ["\u00e9tude.png"])
    assert list(folder.samples) == ["\u00e9tude"]
    assert not folder.skipped


def test_files_called_after_splits_give_them(tmp_path, make):
    names = {"train.json": "a.png", "instances_val2017.json": "b.png", "test.json": "c.png", "all.json": "b.png"}
    folder = folder_of(
        tmp_path, make, {file: content({}, name=name) for file, name in names.items()}, ["a.png", "b.png", "c.png"]
    )
    assert {name: sample.official for name, sample in folder.samples.items()} == {"a": "train", "b": "val", "c": "test"}
    assert not folder.skipped


def test_a_single_split_is_divided_as_if_none_were_given(tmp_path, make):
    folder = folder_of(tmp_path, make, {"train.json": content({}), "train_more.json": content({}, name="b.png")}, TWO)
    assert [sample.official for sample in folder.samples.values()] == [None, None]


def test_without_a_list_for_validation_it_comes_from_training(tmp_path, make):
    files = {"train.json": content({}), "test.json": content({}, name="b.png")}
    folder = folder_of(tmp_path, make, files, ["a.png", "b.png"])
    assert [sample.official for sample in folder.samples.values()] == ["train_val", "test"]


@pytest.mark.parametrize(
    ("annotation", "cause"),
    [
        ({"category_id": 1}, "there is no category 1"),
        ({"category_id": [9]}, 'there is no category "[9]"'),
        ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "expected pixels, got shares"),
        ({"bbox": [1, 2, 3]}, "expected x, y, width, height"),
        ({"bbox": [1, 2, -3, 4]}, "-3 is no length"),
        ({"bbox": [1, 2, float("inf"), 4]}, "expected pixels"),
        ({"bbox": "1 2 3 4"}, "expected x, y, width, height"),
    ],
)
def test_an_image_with_a_bad_annotation_is_not_used(tmp_path, make, annotation, cause):
    files = {"one.json": content({}, annotation), "two.json": content({}, name="b.png")}
    folder = folder_of(tmp_path, make, files, ["a.png", "b.png"])
    assert list(folder.samples) == ["b"]
    (issue,) = folder.skipped
    assert issue.file == "one.json"
    assert "(annotation 2)" in issue.field
    assert not folder.left_out, "it is listed already"
    assert cause.replace('"', "") in issue.cause.replace('"', "")


def test_an_annotation_of_no_image_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, {"labels.json": content({}, {"image_id": 6})})
    assert len(folder.samples["a"].boxes) == 1
    assert [issue.cause for issue in folder.skipped] == ["there is no image 6"]


@pytest.mark.parametrize("name", ["b.png", "../a.png", "/a.png", "", 3])
def test_a_label_for_a_missing_image_is_listed(tmp_path, make, name):
    folder = folder_of(tmp_path, make, {"labels.json": content({}, name=name)})
    assert not folder.samples
    (issue,) = folder.skipped
    assert issue.field == "file_name (image 5)"


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        (content({}, width=96, height=120), "another size: 48 x 60 and 96 x 120"),
        (content({}, {"bbox": [1, 2, 30, 4]}), "has other boxes"),
    ],
)
def test_of_two_entries_that_differ_neither_is_used(tmp_path, make, second, cause):
    folder = folder_of(tmp_path, make, {"one.json": content({}), "two.json": second})
    assert not folder.samples
    (issue,) = folder.skipped
    assert cause in issue.cause


def test_two_splits_of_one_image_are_refused(tmp_path, make):
    folder = folder_of(tmp_path, make, {"train.json": content({}), "val.json": content({})})
    assert [issue.cause.split("another split: ")[1] for issue in folder.skipped] == ["train and val"]


def test_an_image_outside_the_splits_is_listed(tmp_path, make):
    files = {"train.json": content({}), "val.json": content({}, name="b.png"), "rest.json": content({}, name="c.png")}
    folder = folder_of(tmp_path, make, files, ["a.png", "b.png", "c.png"])
    assert list(folder.samples) == ["a", "b"]
    assert [(issue.file, issue.field) for issue in folder.skipped] == [("rest.json", "split (c.png)")]


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"a.json": content(categories=((1, "x"), (1, "y")))}, "two categories have the id 1"),
        ({"a.json": content(categories=((1, "x"), (2, "x")))}, "two classes are called 'x'"),
        ({"a.json": content(categories=((1, "x"), (2, "X")))}, "two classes are called 'x' and 'X'"),
        ({"a.json": content(categories=((1, ""),))}, "'' is no name of a class"),
        ({"a.json": "{"}, "cannot be read as JSON"),
        ({"a.json": "{}"}, "no COCO file in it"),
        ({"a.json": '{"images": 1, "annotations": [], "categories": []}'}, "its images are no list"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, make, files, cause):
    with pytest.raises(DataError, match=cause):
        folder_of(tmp_path, make, files)


def test_patients_come_from_a_pattern_or_the_labels(tmp_path, make):
    files = {"labels.json": content({}, name="p1_a.png", patient="other")}
    folder = folder_of(tmp_path, make, files, ["p1_a.png"], Options(patient_from=r"^(\w+)_"))
    assert folder.samples["p1_a"].patient == "p1"
    assert read_folder(tmp_path, Options()).samples["p1_a"].patient == "other"
    with pytest.raises(ConfigError, match="is no regular expression"):
        read_folder(tmp_path, Options(patient_from="("))
