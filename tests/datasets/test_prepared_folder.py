import json

import numpy as np
import pytest

from covidmm.datasets.annotations import read_annotations
from covidmm.datasets.prepared_folder import data_digest, read_manifest, read_prepared, read_split
from covidmm.errors import DataError
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


def content():
    image = {"id": 1, "file_name": "a.png", "width": 20, "height": 10, "original_width": 40, "original_height": 30}
    image |= {"image_id": "a", "study_id": "s", "study_class": "typical", "fold": 0, "patient": None}
    return {
        "images": [image],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5.5, 5], "area": 27.5}],
        "categories": [{"id": 1, "name": "opacity"}],
    }


def changed(part, **values):
    whole = content()
    whole[part][0] |= values
    return json.dumps(whole)


def without(key):
    whole = content()
    del whole["images"][0][key]
    return json.dumps(whole)


def folder_of(folder, text, split="test"):
    path = folder / "annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, make):
    top = tmp_path_factory.mktemp("prepared")
    prepare("siim", make.siim(top / "raw", 16, size=(120, 96)), top / "siim", Options(max_size=60, workers=1))
    return top / "siim"


def test_what_prepare_writes_is_read(tmp_path):
    path = folder_of(tmp_path, json.dumps(content()))
    assert read_annotations(path) == content()
    (image,) = read_split(path).images
    assert image.path == tmp_path / "images" / "a.png"
    assert (image.image_id, image.study_id, image.split, image.patient) == ("a", "s", "test", None)
    assert image.boxes.tolist() == [[0, 0, 5.5, 5]]
    assert image.original_boxes.tolist() == [[0, 0, 11, 15]]
    assert (image.labels.tolist(), image.classes, image.positive) == ([0], ("typical",), True)
    assert image.coco == content()["images"][0]


def test_every_image_of_a_prepared_folder_is_read_with_its_manifest(prepared):
    data = read_prepared(prepared)
    raw = {split: json.loads((prepared / "annotations" / f"{split}.json").read_text()) for split in data.splits}
    assert [image.coco for image in data.images] == [one for own in raw.values() for one in own["images"]]
    assert sum(len(image.boxes) for image in data.images) == sum(len(own["annotations"]) for own in raw.values())
    assert all(image.path.is_file() and image.dataset == "siim" for image in data.images)
    assert data.manifest["layout"] == "siim"
    assert data.boxed
    assert not data.multi_label
    assert (data.box_areas() > 0).all()


def test_box_classes_are_places_in_the_list_of_categories(tmp_path):
    whole = content() | {"categories": [{"id": 7, "name": "nodule"}, {"id": 3, "name": "mass"}]}
    whole["annotations"] = [
        {"id": place, "image_id": 1, "category_id": number, "bbox": [0, 0, 1, 1], "area": 1}
        for place, number in enumerate((3, 7, 3), start=1)
    ]
    split = read_split(folder_of(tmp_path, json.dumps(whole)))
    assert (split.categories, split.category_ids) == (("nodule", "mass"), (7, 3))
    assert split.images[0].labels.tolist() == [1, 0, 1]


def test_an_image_without_a_box_has_an_empty_array(tmp_path):
    (image,) = read_split(folder_of(tmp_path, json.dumps(content() | {"annotations": []}))).images
    assert image.boxes.shape == image.original_boxes.shape == (0, 4)
    assert image.boxes.dtype == np.float64


def test_an_image_with_several_findings_counts_for_each(tmp_path):
    path = folder_of(tmp_path, changed("images", study_class=None, labels=["Mass", "Edema"]))
    assert read_split(path).class_counts() == {"Mass": 1, "Edema": 1}
    assert read_prepared(tmp_path).multi_label


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON .*nested too deeply"),
        ("\ufeff" + json.dumps(content()), "is not JSON"),
        ("5", "has no annotations, categories, images"),
        ("[]", "has no annotations, categories, images"),
        (json.dumps(content() | {"images": 5}), "its images are no list of objects"),
        (json.dumps(content() | {"categories": [1]}), "its categories are no list of objects"),
        (json.dumps(content() | {"images": content()["images"] * 2}), "image 1 is listed twice"),
        (json.dumps(content() | {"categories": content()["categories"] * 2}), "a category has no id or name"),
        (changed("categories", id=[1]), "a category has no id or name"),
        (changed("categories", name=None), "a category has no id or name"),
        (changed("images", id="x"), "the id 'x'"),
        (changed("images", file_name=5), "image 1: 5 is no file name"),
        (changed("images", file_name="a\0b"), "is no file name"),
        (changed("images", width=0), "image 1: width is 0"),
        (changed("annotations", image_id=9), "a box belongs to image 9"),
        (changed("annotations", image_id=[1]), r"a box belongs to image \[1\]"),
        (changed("annotations", bbox=[1, 2, 3]), r"image 1: \[1, 2, 3\] is no box"),
        (changed("annotations", category_id=2), "image 1: a box is of category 2"),
        (changed("images", original_width=None), "image 1: original_width is None"),
        (changed("images", study_id=[1]), r"image 1: study_id is \[1\], not a text"),
        (changed("images", patient=7), "image 1: patient is 7, not a text"),
        (changed("images", labels="Mass"), "image 1: labels is 'Mass', not a list of texts"),
        (changed("annotations", bbox=[0, 0, -1, 5]), "has a negative side"),
        (changed("annotations", bbox=[0, 0, float("nan"), 5]), "is no box"),
        (changed("annotations", bbox=[0, 0, 10**400, 5]), "is no box"),
    ],
)
def test_anything_else_is_one_line_with_the_file(tmp_path, text, cause):
    path = folder_of(tmp_path, text)
    for read in (read_annotations, read_split, lambda path: read_prepared(path.parent.parent)):
        with pytest.raises(DataError, match=rf"test\.json: .*{cause}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (without("original_width"), "image 1 has no original_width; prepare the data set again"),
        (without("fold"), "image 1 has no fold"),
        (without("study_class"), "image 1 has no study_class"),
        (changed("images", study_id=""), "image 1 has no study_id"),
        (changed("images", image_id=None), "image 1 has no image_id"),
        (changed("images", study_class="severe"), "image 1: unknown study class 'severe'"),
    ],
)
def test_a_prepared_file_says_more_than_any_coco_file(tmp_path, text, cause):
    path = folder_of(tmp_path, text)
    assert read_annotations(path)
    with pytest.raises(DataError, match=rf"test\.json: {cause}"):
        read_split(path)


def test_an_empty_split_is_no_fault_of_a_folder_but_an_empty_folder_is(tmp_path):
    empty = folder_of(tmp_path, json.dumps(content() | {"images": [], "annotations": []}), "val")
    with pytest.raises(DataError, match="lists no image"):
        read_annotations(empty)
    with pytest.raises(DataError, match="lists no image"):
        read_split(empty)
    with pytest.raises(DataError, match="holds no image"):
        read_prepared(tmp_path)
    folder_of(tmp_path, json.dumps(content()))
    assert len(read_prepared(tmp_path).images) == 1


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no annotations/.*tools/prepare\.py"):
        read_prepared(tmp_path)
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read_annotations(tmp_path / "gone.json")


def test_the_manifest_is_read_or_named(tmp_path):
    assert data_digest(tmp_path) is None
    with pytest.raises(DataError, match=r"prepared\.json: no such file"):
        read_manifest(tmp_path)
    (tmp_path / "prepared.json").write_text('{"data_sha256": "abc", "layout": "siim"}')
    assert read_manifest(tmp_path) == {"data_sha256": "abc", "layout": "siim"}
    assert data_digest(tmp_path) == "abc"
    for damaged in ("{half", "[]", "{}"):
        (tmp_path / "prepared.json").write_text(damaged)
        with pytest.raises(DataError, match=r"prepared\.json: no JSON with a data_sha256"):
            data_digest(tmp_path)


def test_without_a_manifest_the_folder_still_counts(tmp_path):
    folder_of(tmp_path, json.dumps(content()))
    (tmp_path / "prepared.json").write_text("{half")
    assert read_prepared(tmp_path).manifest == {}
