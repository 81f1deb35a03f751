from dataclasses import replace

import numpy as np
import pytest

from covidmm.audit import subgroups
from covidmm.audit.checks import Level
from covidmm.audit.subgroups import check_calibration, check_subgroups, score
from covidmm.errors import DataError
from covidmm.evaluation import detection
from covidmm.evaluation.coco_dicts import coco_truth


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(subgroups, "RESAMPLES", 200)


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
    return coco_truth([entry.coco for entry in entries], [entry.boxes for entry in entries])


@pytest.mark.parametrize("part", ["F", "M", "FM"])
def test_a_group_scores_as_pycocotools_scores_its_images(drawn, part):
    entries, results = drawn(worse=True)
    scored = score(entries, results)
    mask = np.array([entry.coco["sex"] in part for entry in entries])
    own = [entry for entry in entries if entry.coco["sex"] in part]
    ids = {entry.number for entry in own}
    expected = detection.average_precision(coco(own), [one for one in results if one["image_id"] in ids])
    assert scored.rankings["opacity"].coco_ap(mask.astype(float)) == pytest.approx(expected[1]["mAP_50"], abs=1e-9)


def test_an_image_drawn_twice_counts_twice(drawn):
    entries, results = drawn()
    twice = [entry for entry in entries for _ in range(2)]
    copies = [replace(e, coco={**e.coco, "id": k}) for k, e in enumerate(twice)]
    both = [{**one, "image_id": k} for k, e in enumerate(twice) for one in results if one["image_id"] == e.number]
    weighted = score(entries, results).rankings["opacity"].coco_ap(np.full(len(entries), 2.0))
    assert weighted == pytest.approx(score(copies, both).rankings["opacity"].coco_ap(), abs=0.02)


def test_the_operating_point_is_that_of_the_metrics(drawn):
    entries, results = drawn()
    expected = detection.score_detections(coco(entries), results)
    check = check_subgroups(score(entries, results))
    assert check.numbers["threshold"] == pytest.approx(expected["threshold"])
    found = check.numbers["groups"]["all"]
    assert found == found | {key: round(expected[key], 4) for key in ("precision", "recall", "f1")}
    nothing = check_subgroups(score(entries, results), 1.0).numbers["groups"]["all"]
    assert (nothing["precision"], nothing["recall"], nothing["f1"]) == (0, 0, 0)


def test_a_group_without_an_opacity_has_no_ap(drawn, entry):
    entries, results = drawn()
    group = check_subgroups(score([*entries, entry(99, "test", [], sex="O")], results), 0.3).numbers["groups"]["sex O"]
    assert (group["ap50"], group["ap50_low"], group["f1"], group["f1_high"]) == (None, None, 0, 0)


def test_a_group_that_does_worse_is_named(drawn):
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


def test_calibration_of_scores(drawn):
    entries, results = drawn()
    check = check_calibration(score(entries, results))
    bins = check.numbers["bins"]
    expected = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(results)
    assert check.numbers["ece"] == pytest.approx(expected)
    assert sum(row["count"] for row in bins) == len(results)
    assert check.numbers["low"] < check.numbers["high"]


def test_predictions_of_other_images_are_refused(drawn, entry):
    entries, results = drawn()
    with pytest.raises(DataError, match="image 999"):
        score(entries, [{**results[0], "image_id": 999}])
    with pytest.raises(DataError, match="no true box"):
        score([entry(1, "test")], [{**results[0], "image_id": 1}])


def test_a_prediction_of_another_class_is_no_hit(drawn):
    entries, results = drawn()
    both = [replace(one, categories=("opacity", "nodule")) for one in entries]
    other = [{**one, "category_id": 2} for one in results]
    assert score(both, results, (1, 2)).rankings["opacity"].hits.any()
    assert not score(both, other, (1, 2)).rankings["opacity"].hits.any()
    with pytest.raises(DataError, match="prediction for category 2"):
        score(entries, other)


@pytest.fixture
def several(drawn):
    """A second class with the boxes of the first turned about, which women's predictions miss; a third without any."""
    entries, results = drawn()
    turned, more = [], []
    for one in entries:
        boxes = np.concatenate([one.boxes, np.add(one.boxes, (0, 30, 0, 30))])
        labels = np.repeat([0, 1], len(one.boxes))
        turned.append(replace(one, boxes=boxes, labels=labels, categories=("opacity", "nodule", "mass")))
        for x, y, width, height in ([x, y, 30, 40] for x, y, *_ in one.boxes.tolist()):
            lost = one.coco["sex"] == "F"
            box = [x, y if lost else y + 30, width, height]
            more.append({"image_id": one.number, "category_id": 2, "bbox": box, "score": 0.8})
    return turned, [*results, *more]


def test_classes_are_judged_by_themselves(several):
    scored = score(*several, (1, 2, 3))
    assert list(scored.rankings) == ["opacity", "nodule"]
    check = check_subgroups(scored)
    assert "sex F (nodule)" in check.summary
    assert "(opacity)" not in check.summary
    assert set(check.numbers["thresholds"]) == {"opacity", "nodule"}
    groups, each = check.tables
    women = [row for row in each.rows if row[1:3] == ("sex", "F")]
    assert [row[0] for row in women] == ["opacity", "nodule"]
    row = next(row for row in groups.rows if row[:2] == ("sex", "F"))
    assert row[5] == pytest.approx(np.mean([one[4] for one in women]), abs=1e-4)
    ids = {one.number for one in several[0] if one.coco["sex"] == "F"}
    truth = coco_truth(
        [one.coco for one in several[0]], [one.truth for one in several[0]], ("opacity", "nodule", "mass")
    )
    own = {**truth, "images": [one for one in truth["images"] if one["id"] in ids]}
    own["annotations"] = [one for one in truth["annotations"] if one["image_id"] in ids]
    expected = detection.average_precision(own, [one for one in several[1] if one["image_id"] in ids])
    assert [one[4] for one in women] == [round(expected[label]["mAP_50"], 4) for label in (1, 2)]


def test_calibration_is_of_each_class(several):
    scored = score(*several, (1, 2, 3))
    check = check_calibration(scored)
    assert set(check.numbers["classes"]) == {"opacity", "nodule"}
    errors = [own["ece"] for own in check.numbers["classes"].values()]
    assert check.numbers["ece"] == pytest.approx(np.mean(errors))
    assert errors[1] == pytest.approx(abs(0.8 - scored.rankings["nodule"].hits.mean()))
    assert check.tables[0].columns[0] == "class"
    assert "largest of" in check.summary
