"""Confusion and kinds of errors beside slow loops over single boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.detection_errors import KINDS, confusion_counts, error_counts, unclaimed

GRID = st.integers(0, 12)
BOX = st.tuples(GRID, GRID, GRID, GRID).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
LABELLED = st.lists(st.tuples(BOX, st.integers(0, 2)), max_size=6)
SCORED = st.lists(st.tuples(BOX, st.integers(0, 2), st.integers(0, 8)), max_size=8)
IMAGES = st.lists(st.tuples(SCORED, LABELLED, LABELLED), min_size=1, max_size=4)
THRESHOLDS = (0.25, 0.5, 0.0)


def boxes_of(entries):
    return np.array([entry[0] for entry in entries], float).reshape(-1, 4)


def labels_of(entries):
    return np.array([entry[1] for entry in entries], np.int64)


def arrays(images):
    """Predictions and truths of drawn images; scores are eighths, so that many are equal."""
    found = [(boxes_of(own), np.array([one[2] for one in own], float) / 8, labels_of(own)) for own, _, _ in images]
    truths = [TrueBoxes(boxes_of(t), labels_of(t), boxes_of(c), labels_of(c)) for _, t, c in images]
    return found, truths


def near_scenes(seed, images=30):
    """Predictions that lie about true boxes of any class, several classes at one place, crowds, empty images."""
    rng = np.random.default_rng(seed)
    found, truths = [], []
    for number in range(images):
        low = rng.uniform(0, 60, (0 if number % 5 == 0 else rng.integers(1, 6), 2))
        truth = np.hstack([low, low + rng.uniform(10, 40, low.shape)])
        truth = np.vstack([truth, truth[: rng.integers(0, 2)]])
        base = np.vstack([truth, truth, rng.uniform([0, 0, 60, 60], [50, 50, 100, 100], (3, 4))])
        boxes = base + rng.normal(0, rng.choice([1, 5, 12]), base.shape)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        crowds = rng.uniform([0, 0, 50, 50], [50, 50, 100, 100], (number % 3, 4))
        labels = [rng.integers(0, 3, len(one)) for one in (truth, boxes, crowds)]
        found.append((boxes, rng.random(len(boxes)).round(1), labels[1]))
        truths.append(TrueBoxes(truth, labels[0], crowds, labels[2]))
    return found, truths


def overlap(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return shared / union if union > 0 else 0.0


def in_crowd(box, label, truth):
    """Whether half of a box or more lies in a crowd of its class."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    for crowd, other in zip(truth.crowds, truth.crowd_labels, strict=True):
        width = min(box[2], crowd[2]) - max(box[0], crowd[0])
        height = min(box[3], crowd[3]) - max(box[1], crowd[1])
        if label == other and area > 0 and max(width, 0) * max(height, 0) / area >= 0.5:
            return True
    return False


def ordered(one):
    """The predictions of one image above their thresholds, the surest first, equals as they come."""
    rows = [row for row in zip(*one, strict=True) if row[1] >= THRESHOLDS[row[2]]]
    return sorted(rows, key=lambda row: -row[1])


def naive_confusion(found, truths):
    counts = np.zeros((4, 4), int)
    for one, truth in zip(found, truths, strict=True):
        taken = set()
        for box, _, label in ordered(one):
            best = None
            for place, (other, true) in enumerate(zip(truth.boxes, truth.labels, strict=True)):
                shared = overlap(box, other)
                key = (round(shared, 12), true == label)
                if shared > 0.5 and place not in taken and (best is None or key > best[0]):
                    best = (key, place)
            if best is not None:
                taken.add(best[1])
                counts[truth.labels[best[1]], label] += 1
            elif not in_crowd(box, label, truth):
                counts[3, label] += 1
        for place, true in enumerate(truth.labels):
            counts[true, 3] += place not in taken
    return counts


def naive_errors(found, truths):
    counts = np.zeros((3, len(KINDS)), int)
    for one, truth in zip(found, truths, strict=True):
        claimed, wrong = set(), []
        for box, _, label in ordered(one):
            own = [(overlap(box, b), -k) for k, b in enumerate(truth.boxes) if truth.labels[k] == label]
            shared, place = max(own, default=(0.0, 1))
            if shared > 0.5 and -place not in claimed:
                claimed.add(-place)
            elif not in_crowd(box, label, truth):
                wrong.append((box, label))
        covered = set()
        for box, label in wrong:
            own = [(overlap(box, b), -k) for k, b in enumerate(truth.boxes) if truth.labels[k] == label]
            other = [(overlap(box, b), -k) for k, b in enumerate(truth.boxes) if truth.labels[k] != label]
            near, far = max(own, default=(0.0, 1)), max(other, default=(0.0, 1))
            if 0.1 <= near[0] <= 0.5:
                kind = "localisation"
                covered.add(-near[1])
            elif far[0] > 0.5:
                kind = "classification"
                covered.add(-far[1])
            elif near[0] > 0.5:
                kind = "duplicate"
            elif max(near[0], far[0]) <= 0.1:
                kind = "background"
            else:
                kind = "both"
            counts[label, KINDS.index(kind)] += 1
        for place, true in enumerate(truth.labels):
            counts[true, KINDS.index("missed")] += place not in claimed | covered
    return counts


@given(IMAGES)
@settings(max_examples=200, deadline=None)
def test_odd_boxes_are_counted_as_one_by_one(images):
    """Equal scores and overlaps, boxes twice or without area, an IoU of just the threshold, crowds, empty images."""
    found, truths = arrays(images)
    assert confusion_counts(found, truths, THRESHOLDS).tolist() == naive_confusion(found, truths).tolist()
    assert error_counts(found, truths, THRESHOLDS).tolist() == naive_errors(found, truths).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_predictions_near_the_truth_are_counted_as_one_by_one(seed):
    found, truths = near_scenes(seed, 90)
    confusion, errors = (count(found, truths, THRESHOLDS) for count in (confusion_counts, error_counts))
    assert confusion.tolist() == naive_confusion(found, truths).tolist()
    assert errors.tolist() == naive_errors(found, truths).tolist()
    assert (errors.sum(0) > 0).all()
    assert (confusion[:3, :3] > 0).all()
    # every true box is in a row, and no prediction is counted twice
    assert confusion[:3].sum(1).tolist() == np.bincount(np.concatenate([t.labels for t in truths])).tolist()
    assert confusion[:, :3].sum() <= sum(len(ordered(one)) for one in found)


def image(truth, predicted):
    """One image: true boxes and predictions as (x1, x2, label), all 10 high; scores fall."""
    found = [([x1, 0, x2, 10], label) for x1, x2, label in predicted]
    scores = np.linspace(0.9, 0.8, len(found))
    true = [([x1, 0, x2, 10], label) for x1, x2, label in truth]
    return [(boxes_of(found), scores, labels_of(found))], [TrueBoxes(boxes_of(true), labels_of(true))]


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        pytest.param([(0, 10, 0)], [(0, 10, 1)], {"classification": 1}, id="another class, so the box is not missed"),
        pytest.param([(0, 10, 0)], [(0, 5, 0)], {"localisation": 1}, id="one half of the class, neither is it here"),
        pytest.param([(0, 10, 0)], [(0, 5, 1)], {"both": 1, "missed": 1}, id="one half of another class"),
        pytest.param([(0, 10, 0)], [(0, 10, 0), (0, 9, 0)], {"duplicate": 1}, id="twice"),
        pytest.param([], [(0, 10, 0)], {"background": 1}, id="an image without boxes"),
        pytest.param([(0, 10, 0)], [(0, 1, 1)], {"background": 1, "missed": 1}, id="a tenth of another class"),
        pytest.param([(0, 10, 0)], [(0, 1, 0)], {"localisation": 1}, id="a tenth of the class"),
        pytest.param([(0, 10, 0)], [], {"missed": 1}, id="nothing"),
    ],
)
def test_the_kinds(truth, predicted, expected):
    counts = error_counts(*image(truth, predicted), [0.5, 0.5]).sum(0).tolist()
    assert {kind: count for kind, count in zip(KINDS, counts, strict=True) if count} == expected


def test_several_findings_at_one_place_are_not_confused():
    one = image([(0, 10, 0), (0, 10, 1)], [(0, 10, 1), (0, 10, 0)])
    assert confusion_counts(*one, [0.5, 0.5]).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_true_boxes_that_are_left():
    found, (truth,) = image([(0, 10, 0), (20, 30, 0), (0, 10, 1)], [(0, 9, 0), (40, 50, 0)])
    assert unclaimed(found[0][0], found[0][2], np.array([True, False]), truth).tolist() == [False, True, True]
