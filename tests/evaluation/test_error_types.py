"""Confusion and types of errors against a slow implementation of the same rules."""

import numpy as np
import pytest
from pycocotools import mask

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.coco_dicts import coco_results, coco_truth
from covidmm.evaluation.error_types import ERRORS, class_errors
from covidmm.findings import Detections

NAMES = ("opacity", "effusion", "nodule")


def iou(one, other):
    """Of two corners' boxes, by pycocotools."""
    wide = [[box[0], box[1], box[2] - box[0], box[3] - box[1]] for box in (one, other)]
    return float(mask.iou(np.array(wide[:1], float), np.array(wide[1:], float), [0])[0, 0])


def analysed(found, truths, thresholds):
    images = [{"id": number} for number in range(1, len(truths) + 1)]
    return class_errors(coco_truth(images, truths, NAMES), coco_results(images, found), thresholds)


def naive(found, truths, thresholds):
    """Box by box, the surest first."""
    confusion = np.zeros((4, 4), int)
    errors = {name: dict.fromkeys(ERRORS, 0) for name in NAMES}
    for one, truth in zip(found, truths, strict=True):
        rows = [
            (box, score, label)
            for box, score, label in zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True)
            if score >= thresholds[NAMES[label]]
        ]
        rows.sort(key=lambda row: -row[1])
        true = list(zip(truth.boxes.tolist(), truth.labels.tolist(), strict=True))
        owned, hit, covered = set(), set(), set()
        false = []
        for box, _, label in rows:
            overlaps = [iou(box, other) for other, _ in true]
            best = int(np.argmax(overlaps)) if true else None
            if best is not None and overlaps[best] > 0.5 and best not in owned:
                owned.add(best)
                confusion[true[best][1], label] += 1
            else:
                confusion[3, label] += 1
            own = [value if kind == label else -1 for value, (_, kind) in zip(overlaps, true, strict=True)]
            best = int(np.argmax(own)) if true else None
            if best is not None and own[best] > 0.5 and best not in hit:
                hit.add(best)
            else:
                false.append((overlaps, label))
        covered |= hit
        for overlaps, label in false:
            own = [value if kind == label else -1 for value, (_, kind) in zip(overlaps, true, strict=True)]
            other = [value if kind != label else -1 for value, (_, kind) in zip(overlaps, true, strict=True)]
            if own and 0.1 <= max(own) <= 0.5:
                kind = "localisation"
                covered.add(int(np.argmax(own)))
            elif other and max(other) > 0.5:
                kind = "classification"
                covered.add(int(np.argmax(other)))
            elif own and max(own) > 0.5:
                kind = "duplicate"
            elif max([-1, *own, *other]) < 0.1:
                kind = "background"
            else:
                kind = "both"
            errors[NAMES[label]][kind] += 1
        for place, (_, label) in enumerate(true):
            confusion[label, 3] += place not in owned
            errors[NAMES[label]]["missed"] += place not in covered
    return confusion.tolist(), errors


def random_case(seed):
    random = np.random.default_rng(seed)
    found, truths = [], []
    for _ in range(12):
        corners = random.uniform(0, 60, (random.integers(0, 5), 2))
        boxes = np.concatenate([corners, corners + random.uniform(15, 40, corners.shape)], 1)
        labels = random.integers(0, 3, len(boxes))
        truths.append(TrueBoxes(boxes, labels))
        moved = np.repeat(boxes, random.integers(0, 4, len(boxes)), 0)
        kinds = np.repeat(labels, np.unique(np.arange(len(boxes)), return_counts=True)[1] if len(boxes) else 0)
        moved = np.concatenate([moved + random.normal(0, 5, moved.shape), random.uniform(0, 90, (3, 4))])
        moved = np.concatenate([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 3)], 1)
        drawn = random.integers(0, 3, len(moved))
        drawn[: min(len(kinds), len(moved))] = kinds[: len(moved)]
        found.append(Detections(moved, random.permutation(np.linspace(0.05, 0.95, len(moved))), drawn))
    return found, truths


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_of_a_loop_over_boxes(seed):
    found, truths = random_case(seed)
    thresholds = {"opacity": 0.2, "effusion": 0.5, "nodule": 0.05}
    own = analysed(found, truths, thresholds)
    confusion, errors = naive(found, truths, thresholds)
    assert own["confusion"] == {"classes": list(NAMES), "counts": confusion}
    assert own["errors"] == errors
    assert sum(map(sum, confusion)) > 20


BOX = [10.0, 10, 50, 50]


@pytest.mark.parametrize(
    ("box", "label", "kind", "missed"),
    [
        (BOX, 0, None, 0),
        ([30.0, 10, 70, 50], 0, "localisation", 0),
        (BOX, 1, "classification", 0),
        ([30.0, 10, 70, 50], 1, "both", 1),
        ([80.0, 80, 99, 99], 0, "background", 1),
    ],
)
def test_one_box_of_each_kind(box, label, kind, missed):
    found = analysed([Detections([box], [0.9], [label])], [TrueBoxes(np.array([BOX]))], dict.fromkeys(NAMES, 0.5))
    counts = {one: found["errors"][NAMES[label]][one] for one in ERRORS[:-1]}
    assert counts == {one: int(one == kind) for one in ERRORS[:-1]}
    assert found["errors"]["opacity"]["missed"] == missed


def test_a_second_box_is_a_duplicate_and_one_in_a_crowd_is_nothing():
    truth = TrueBoxes(np.array([BOX]), crowds=np.array([[60.0, 60, 100, 100]]))
    found = Detections([BOX, BOX, [65, 65, 90, 90]], [0.9, 0.8, 0.7], [0, 0, 0])
    own = analysed([found], [truth], dict.fromkeys(NAMES, 0.5))
    assert own["errors"]["opacity"] == dict.fromkeys(ERRORS, 0) | {"duplicate": 1}
    assert own["confusion"]["counts"][0] == [1, 0, 0, 0]
    assert own["confusion"]["counts"][3] == [1, 0, 0, 0]


def test_a_class_without_a_threshold_has_no_box():
    own = analysed([Detections([BOX], [0.9], [0])], [TrueBoxes(np.array([BOX]))], {"effusion": 0.5})
    assert own["errors"]["opacity"]["missed"] == 1
