import json

import numpy as np
import pytest

from covidmm.errors import DataError
from covidmm.reports.drawn_images import Case, choose, read_cases

IMAGE = {"id": 1, "file_name": "a/one.png", "width": 100, "height": 80, "image_id": "one", "study_class": "typical"}


def make_case(name, study_class, found=0, false=0, missed=0):
    truth = np.tile([0.0, 0, 9, 9], (found + missed, 1))
    hits = np.array([True] * found + [False] * false, bool)
    boxes = np.tile([0.0, 0, 9, 9], (found + false, 1))
    image = {"id": 1, "image_id": name, "study_class": study_class, "width": 9, "height": 9}
    return Case(None, image, truth, boxes, np.ones(len(hits)), hits)


def coco(*boxes):
    return {
        "images": [IMAGE],
        "annotations": [{"id": k, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes, 1)],
        "categories": [{"id": 1, "name": "opacity"}],
    }


def prediction(box, score, image=1):
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score}


def test_joins_truth_and_predictions(tmp_path):
    predictions = [
        prediction([10, 10, 20, 20], 0.9),
        prediction([11, 10, 20, 20], 0.8),
        prediction([60, 10, 20, 20], 0.5),
        prediction([0, 0, 9, 9], 0.49),
    ]
    (case,) = read_cases(tmp_path, coco([10, 10, 20, 20], [60, 40, 20, 20]), predictions, 0.5)
    assert case.path == tmp_path / "a" / "one.png"
    assert case.name == "one"
    assert case.boxes.tolist() == [[10, 10, 30, 30], [11, 10, 31, 30], [60, 10, 80, 30]]
    assert case.hits.tolist() == [True, False, False]
    assert case.counts == (1, 2, 1)
    assert case.f1 == pytest.approx(2 / 5)


def test_reads_files_as_well(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(coco([10, 10, 20, 20])))
    (tmp_path / "found.json").write_text("[]")
    (case,) = read_cases(tmp_path, tmp_path / "truth.json", tmp_path / "found.json", 0.5)
    assert case.counts == (0, 0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("[", "is not JSON"), ("{}", "holds a dict where a list belongs")],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "found.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_cases(tmp_path, coco(), path, 0.5)
    assert str(path) in str(caught.value)


def test_predictions_of_another_split():
    with pytest.raises(DataError, match="prediction for image 7, which the ground truth does not have"):
        read_cases(".", coco(), [prediction([0, 0, 5, 5], 0.9, image=7)], 0.5)


def test_an_image_rightly_empty_is_perfect():
    assert make_case("a", "negative").f1 == 1
    assert make_case("a", "negative", false=1).f1 == 0


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    classes = ["typical"] * 20 + ["negative"] * 8 + ["indeterminate"] * 5 + ["atypical"] * 2 + [None] * 3
    return [make_case(f"{k:03d}", name, *rng.integers(0, 3, 3)) for k, name in enumerate(classes)]


def test_spread_takes_every_class_in_turn(cases):
    chosen = choose(cases, 12)
    assert [case.study_class for case in chosen] == (
        ["negative"] * 3 + ["typical"] * 3 + ["indeterminate"] * 2 + ["atypical"] * 2 + [None] * 2
    )
    assert len({case.name for case in chosen}) == 12


@pytest.mark.parametrize("order", ["spread", "worst", "best"])
def test_choice_depends_on_the_seed_and_not_on_the_file(cases, order):
    names = [case.name for case in choose(cases, 8, order, seed=3)]
    assert [case.name for case in choose(cases[::-1], 8, order, seed=3)] == names
    others = [[case.name for case in choose(cases, 8, order, seed=seed)] for seed in range(5)]
    assert (len({tuple(other) for other in others}) > 1) == (order == "spread")


def test_fewer_cases_than_asked_for(cases):
    assert sorted(case.name for case in choose(cases, 100)) == sorted(case.name for case in cases)
    assert choose([], 5) == []


def test_worst_and_best(cases):
    worst, best = choose(cases, len(cases), "worst"), choose(cases, len(cases), "best")
    assert (np.diff([case.f1 for case in worst]) >= 0).all()
    assert (np.diff([case.f1 for case in best]) <= 0).all()
    failures = [case for case in worst if case.f1 == 0]
    assert (np.diff([sum(case.counts[1:]) for case in failures]) <= 0).all()


def test_an_unknown_order(cases):
    with pytest.raises(ValueError, match="'spread', 'worst' or 'best', not 'random'"):
        choose(cases, 3, "random")
