import json

import numpy as np
import pytest

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.reports.drawing import marks
from covidmm.reports.drawn_images import DrawnImage, above, choose, drawn_images, least_scores
from covidmm.reports.looks import CROWD, FOUND, TRUTH, of_class

IMAGE = {"id": 1, "file_name": "a/one.png", "width": 100, "height": 80, "image_id": "one", "study_class": "typical"}


def make_image(name, study_class, found=0, false=0, missed=0):
    truth = TrueBoxes(np.tile([0.0, 0, 9, 9], (found + missed, 1)))
    hits = np.array([True] * found + [False] * false, bool)
    boxes = np.tile([0.0, 0, 9, 9], (found + false, 1))
    return DrawnImage(name, (9, 9), Detections(boxes, np.ones(len(hits))), truth, hits, study_class=study_class)


def coco(*boxes):
    return {
        "images": [IMAGE],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "area": 1} for k, box in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "opacity"}],
    }


def prediction(box, score, image=1):
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score}


@pytest.fixture
def join(tmp_path):
    """Writes truth and predictions, and reads them."""

    def read(truth, predictions, threshold=0.5, classes=None):
        for name, content in (("truth", truth), ("found", predictions)):
            (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        files = {1: tmp_path / "a" / "one.png"}
        return drawn_images(files, tmp_path / "truth.json", tmp_path / "found.json", threshold, classes)

    return read


def test_joins_truth_and_predictions(join, tmp_path):
    predictions = [
        prediction([10, 10, 20, 20], 0.9),
        prediction([11, 10, 20, 20], 0.8),
        prediction([60, 10, 20, 20], 0.5),
        prediction([0, 0, 9, 9], 0.49),
    ]
    image = join(coco([60, 40, 20, 20], [10, 10, 20, 20]), predictions)[1]
    assert image.path == tmp_path / "a" / "one.png"
    assert image.name == "one"
    assert image.size == (80, 100)
    assert image.found.boxes.tolist() == [[10, 10, 30, 30], [11, 10, 31, 30], [60, 10, 80, 30]]
    assert image.hits.tolist() == [True, False, False]
    assert image.missed.tolist() == [True, False]
    assert image.counts == (1, 2, 1)
    assert image.f1 == pytest.approx(2 / 5)


def test_boxes_of_categories_that_a_detector_was_not_made_for_are_not_missed(join):
    truth = coco([10, 10, 20, 20], [60, 40, 20, 20])
    truth["categories"].insert(0, {"id": 7, "name": "mass"})
    truth["annotations"][1]["category_id"] = 7
    found = [prediction([10, 10, 20, 20], 0.9)]
    assert join(truth, found)[1].counts == (1, 0, 1)
    image = join(truth, found, classes=("opacity",))[1]
    assert image.counts == (1, 0, 0)
    assert list(image.classes) == ["opacity"]


def test_a_box_of_another_class_is_no_hit_and_one_in_a_crowd_counts_for_nothing(join):
    truth = coco([10, 10, 20, 20], [60, 40, 20, 20], [0, 50, 40, 30])
    truth["categories"].append({"id": 7, "name": "mass"})
    truth["annotations"][1]["category_id"] = 7
    truth["annotations"][2]["iscrowd"] = 1
    found = [prediction([10, 10, 20, 20], 0.9), prediction([60, 40, 20, 20], 0.8), prediction([5, 55, 10, 10], 0.7)]
    wrong = [{**one, "category_id": category} for one, category in zip(found, (7, 1, 1), strict=True)]
    right = [{**one, "category_id": category} for one, category in zip(found, (1, 7, 1), strict=True)]
    image = join(truth, wrong)[1]
    assert (image.counts, image.missed.tolist(), image.ignored.tolist()) == (
        (0, 2, 2),
        [True] * 2,
        [False, False, True],
    )
    image = join(truth, right)[1]
    assert (image.counts, image.missed.tolist(), image.f1) == ((2, 0, 0), [False, False], 1)
    looks = [(mark.look, mark.label) for mark in marks(image)]
    assert looks == [
        (CROWD, "crowd"),
        (of_class(TRUTH, 0), "opacity"),
        (of_class(TRUTH, 1), "mass"),
        (of_class(FOUND, 0), "opacity 0.90"),
        (of_class(FOUND, 1), "mass 0.80"),
        (CROWD, "opacity 0.70"),
    ]
    image = join(truth, [{**found[2], "category_id": 7}])[1]  # the crowd is of the other class
    assert image.counts == (0, 1, 2)
    with pytest.raises(DataError, match="prediction for category 9"):
        join(truth, [{**found[0], "category_id": 9}])


@pytest.mark.parametrize(("content", "message"), [("[", "is not JSON"), ("{}", "expected a COCO results list, got")])
def test_a_bad_file_is_named(join, content, message):
    with pytest.raises(DataError, match=rf"found\.json: {message}"):
        join(coco(), content)


def test_missing_predictions_are_named(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(coco()))
    with pytest.raises(DataError, match=r"found\.json: cannot be read: No such file"):
        drawn_images({}, tmp_path / "truth.json", tmp_path / "found.json", 0.5)


def test_predictions_of_another_split(join):
    with pytest.raises(DataError, match="prediction for image 7, which the ground truth does not have"):
        join(coco(), [prediction([0, 0, 5, 5], 0.9, image=7)])


def test_an_image_rightly_empty_is_perfect():
    assert make_image("a", "negative").f1 == 1
    assert make_image("a", "negative", false=1).f1 == 0


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    classes = ["typical"] * 20 + ["negative"] * 8 + ["indeterminate"] * 5 + ["atypical"] * 2 + [None] * 3
    return [make_image(f"{k:03d}", name, *rng.integers(0, 3, 3)) for k, name in enumerate(classes)]


def test_spread_takes_every_class_in_turn(images):
    chosen = choose(images, 12)
    assert [image.study_class for image in chosen] == (
        ["negative"] * 3 + ["typical"] * 3 + ["indeterminate"] * 2 + ["atypical"] * 2 + [None] * 2
    )
    assert len({image.name for image in chosen}) == 12


@pytest.mark.parametrize("order", ["spread", "worst", "best"])
def test_choice_does_not_depend_on_the_order_of_the_file(images, order):
    assert choose(images[::-1], 8, order) == choose(images, 8, order)


def test_fewer_images_than_asked_for(images):
    assert sorted(image.name for image in choose(images, 100)) == sorted(image.name for image in images)
    assert choose([], 5) == []


def test_worst_and_best(images):
    worst, best = choose(images, len(images), "worst"), choose(images, len(images), "best")
    assert (np.diff([image.f1 for image in worst]) >= 0).all()
    assert (np.diff([image.f1 for image in best]) <= 0).all()
    failures = [image for image in worst if image.f1 == 0]
    assert (np.diff([sum(image.counts[1:]) for image in failures]) <= 0).all()


def test_an_unknown_order(images):
    with pytest.raises(ValueError, match="'spread', 'worst' or 'best', not 'random'"):
        choose(images, 3, "random")


def test_each_class_has_its_own_threshold_and_a_score_at_it_is_above():
    least = least_scores(("a", "b", "c"), 0.3, {"b": 0.7})
    assert least.tolist() == [0.3, 0.7, 0.3]
    scores, labels = np.array([0.3, 0.7, 0.69, 0.29], np.float32), np.array([0, 1, 1, 2])
    # float32 has no 0.7: in float64 the score that was chosen as the threshold would lie below it
    assert above(scores, labels, least).tolist() == [True, True, False, False]
    assert above(scores[:0], labels[:0], least).shape == (0,)
