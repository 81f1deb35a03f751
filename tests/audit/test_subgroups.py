import json
from dataclasses import replace

import numpy as np
import pytest

from covidmm.audit import subgroups
from covidmm.audit.checks import Level
from covidmm.audit.subgroups import (
    average_precision,
    best_threshold,
    check_calibration,
    check_subgroups,
    operating_point,
    read_predictions,
    score,
)
from covidmm.errors import DataError
from covidmm.evaluation import detection
from covidmm.utils.boxes import xywh


@pytest.fixture
def drawn(entry):
    """60 test images with boxes, and predictions that are worse on women where asked."""

    def draw(worse=False):
        chance = np.random.default_rng(4)
        entries, results = [], []
        for number in range(1, 61):
            sex = "F" if number % 2 else "M"
            boxes = [(x, 10.0, 30.0, 40.0) for x in (5.0, 60.0)[: 1 + number % 3 % 2]]
            size = 1000 + number
            entries.append(entry(number, "test", boxes, sex=sex, view="AP", original_width=size, original_height=900))
            for x, y, width, height in boxes:
                missed = worse and sex == "F" and number % 4 == 1
                shift = 60 if missed else chance.normal(0, 3)
                box = [x + shift, y, width, height]
                results.append({"image_id": number, "category_id": 1, "bbox": box, "score": float(chance.random())})
            results.append(
                {"image_id": number, "category_id": 1, "bbox": [0, 0, 9, 9], "score": float(chance.random() / 2)}
            )
        return entries, results

    return draw


def coco(entries):
    boxes = [(entry.number, box) for entry in entries for box in xywh(entry.boxes).tolist()]
    annotations = [
        {"id": k, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for k, (image, box) in enumerate(boxes, 1)
    ]
    return {
        "images": [dict(e.coco) for e in entries],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "o"}],
    }


@pytest.mark.parametrize("part", ["F", "M", "FM"])
def test_a_group_scores_as_pycocotools_scores_its_images(drawn, part):
    entries, results = drawn(worse=True)
    scored = score(entries, results)
    mask = np.array([entry.coco["sex"] in part for entry in entries])
    own = [entry for entry in entries if entry.coco["sex"] in part]
    ids = {entry.number for entry in own}
    expected = detection.average_precision(coco(own), [one for one in results if one["image_id"] in ids])
    assert average_precision(scored, mask.astype(float)) == pytest.approx(expected[1]["mAP_50"], abs=1e-9)


def test_an_image_drawn_twice_counts_twice(drawn):
    entries, results = drawn()
    twice = [entry for entry in entries for _ in range(2)]
    copies = [replace(e, coco={**e.coco, "id": k}) for k, e in enumerate(twice)]
    both = [{**one, "image_id": k} for k, e in enumerate(twice) for one in results if one["image_id"] == e.number]
    weighted = average_precision(score(entries, results), np.full(len(entries), 2.0))
    assert weighted == pytest.approx(average_precision(score(copies, both), np.ones(len(copies))), abs=0.02)


def test_the_operating_point_is_that_of_the_metrics(drawn):
    entries, results = drawn()
    scored, ones = score(entries, results), np.ones(len(entries))
    expected = detection.score_detections(coco(entries), results)
    assert best_threshold(scored) == pytest.approx(expected["threshold"])
    found = operating_point(scored, ones, best_threshold(scored))
    assert found == pytest.approx([expected[name] for name in ("precision", "recall", "f1")])
    assert operating_point(scored, ones, 1.0)[2] == 0


def test_a_group_that_does_worse_is_named(drawn, monkeypatch):
    monkeypatch.setattr(subgroups, "RESAMPLES", 200)
    check = check_subgroups(score(*drawn(worse=True)), 0.3)
    assert check.level is Level.WARNING
    assert "sex F" in check.summary
    groups = check.numbers["groups"]
    assert groups["sex F"]["ap50"] < groups["sex M"]["ap50"]
    assert (groups["all"]["images"], groups["sex F"]["images"], groups["view AP"]["images"]) == (60, 30, 60)
    assert groups["sex F"]["ap50_low"] < groups["sex F"]["ap50"] < groups["sex F"]["ap50_high"]
    even = check_subgroups(score(*drawn()), None)
    assert even.level is Level.OK
    assert "optimistic" in even.paragraph


def test_calibration_of_scores(drawn, monkeypatch):
    monkeypatch.setattr(subgroups, "RESAMPLES", 100)
    entries, results = drawn()
    check = check_calibration(score(entries, results))
    bins = check.numbers["bins"]
    expected = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(results)
    assert check.numbers["ece"] == pytest.approx(expected)
    assert sum(row["count"] for row in bins) == len(results)
    assert check.numbers["low"] < check.numbers["high"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is not JSON"),
        ("{}", "expected a COCO results list"),
        ("[]", "at least one box"),
        ("[1]", "not a COCO results list"),
        ('[{"image_id": 1, "bbox": [1, 2], "score": 0.5}]', "four numbers"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1.5}]', "scores in 0..1"),
        ('[{"image_id": 1, "bbox": [1, NaN, 3, 4], "score": 0.5}]', "not finite"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text, cause):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(DataError, match=cause) as error:
        read_predictions(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "gone.json")


def test_predictions_of_other_images_are_refused(drawn, entry, tmp_path):
    entries, results = drawn()
    with pytest.raises(DataError, match="image 999"):
        score(entries, [{**results[0], "image_id": 999}])
    with pytest.raises(DataError, match="no opacity"):
        score([entry(1, "test")], [{**results[0], "image_id": 1}])
    path = tmp_path / "found.json"
    path.write_text(json.dumps(results))
    assert read_predictions(path) == results
