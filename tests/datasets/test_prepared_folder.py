import json

import pytest

from covidmm.datasets.prepared_folder import read_annotations
from covidmm.errors import DataError


def content():
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5.5, 5]}],
        "categories": [{"id": 1, "name": "opacity"}],
    }


def changed(part, **values):
    whole = content()
    whole[part][0] |= values
    return json.dumps(whole)


def test_what_prepare_writes_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content()))
    assert read_annotations(tmp_path / "a.json") == content()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON .*nested too deeply"),
        ("\ufeff" + json.dumps(content()), "is not JSON"),
        ("5", "has no annotations, categories, images"),
        (json.dumps(content() | {"images": 5}), "its images are no list of objects"),
        (json.dumps(content() | {"categories": [1]}), "its categories are no list of objects"),
        (json.dumps(content() | {"images": [], "annotations": []}), "lists no image"),
        (json.dumps(content() | {"images": content()["images"] * 2}), "image 1 is listed twice"),
        (changed("images", id="x"), "the id 'x'"),
        (changed("images", file_name=5), "image 1: 5 is no file name"),
        (changed("images", file_name="a\0b"), "is no file name"),
        (changed("images", width=0), "image 1: width is 0"),
        (changed("annotations", image_id=9), "a box belongs to image 9"),
        (changed("annotations", image_id=[1]), r"a box belongs to image \[1\]"),
        (changed("annotations", bbox=[1, 2, 3]), r"image 1: \[1, 2, 3\] is no box"),
        (changed("images", original_width=None), "image 1: original_width is None"),
        (changed("images", study_id=[1]), r"image 1: study_id is \[1\], not a text"),
        (changed("annotations", bbox=[0, 0, -1, 5]), "has a negative side"),
        (changed("annotations", bbox=[0, 0, float("nan"), 5]), "is no box"),
        (changed("annotations", bbox=[0, 0, 10**400, 5]), "is no box"),
    ],
)
def test_anything_else_is_one_line_with_the_file(tmp_path, text, cause):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json: .*{cause}") as caught:
        read_annotations(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
