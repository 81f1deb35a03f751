"""COCO dicts made of boxes and back, and files of results."""

import json

import pytest

from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import by_image, coco_results, coco_truth, read_results
from covidmm.findings import Detections


def test_dicts_become_the_boxes_that_they_were_made_of():
    images = [{"id": 7}, {"id": 3}, {"id": 5}]
    found = [Detections([[1, 2, 4, 6]], [0.5]), Detections.none(), Detections([[0, 0, 9, 9], [1, 1, 2, 2]], [0.25, 1])]
    truth = coco_truth(images, [one.boxes for one in found])
    assert [(one["id"], one["image_id"], one["area"]) for one in truth["annotations"]] == [
        (1, 7, 12),
        (2, 5, 81),
        (3, 5, 1),
    ]
    assert truth["annotations"][0]["bbox"] == [1, 2, 3, 4]
    assert truth["categories"] == [{"id": 1, "name": "opacity"}]
    back = by_image(coco_results(images, found), [7, 3, 5])
    for one, (boxes, scores) in zip(found, back, strict=True):
        assert (one.boxes.tolist(), one.scores.tolist()) == (boxes.tolist(), scores.tolist())
    labelled = coco_results(images[:1], [Detections([[0, 0, 1, 1]], [0.5], [2])])
    assert labelled[0]["category_id"] == 3


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is not JSON"),
        ("{}", "expected a COCO results list, got a dict"),
        ("[1]", "not a COCO results list"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2], "score": 0.5}]', "four numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1.5}]', "scores in 0..1"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, NaN, 3, 4], "score": 0.5}]', "not finite"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text, cause):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(DataError, match=cause) as error:
        read_results(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "gone.json")


@pytest.mark.parametrize("count", [0, 3])
def test_a_whole_file_comes_back(tmp_path, count):
    results = [{"image_id": k, "category_id": 1, "bbox": [1.5, 2, 3, 4], "score": 0.25} for k in range(count)]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(results))
    assert read_results(path) == results
