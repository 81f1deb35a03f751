import numpy as np
import pytest

from covidmm.ensembles.pooled_boxes import NormBoxes
from covidmm.ensembles.validation_images import FusionCase, mean_ap_50, pool_cases
from covidmm.errors import DataError
from covidmm.evaluation.detection import average_precision
from covidmm.findings import Detections

ONE = Detections([[0, 0, 9, 9]], [0.5])
NOTHING = np.zeros((0, 4))


def by_pycocotools(fused, truths, side=1000):
    """The same as COCO dicts."""

    def entry(number, box):
        x1, y1, x2, y2 = (box * side).tolist()
        area = (x2 - x1) * (y2 - y1)
        return {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}

    boxes = [entry(number, box) for number, truth in enumerate(truths) for box in truth]
    ground_truth = {
        "images": [{"id": number, "width": side, "height": side} for number in range(len(truths))],
        "categories": [{"id": 1, "name": "opacity"}],
        "annotations": [{**box, "id": k} for k, box in enumerate(boxes, 1)],
    }
    results = [
        {**entry(number, box), "score": float(score)}
        for number, found in enumerate(fused)
        for box, score in zip(found.boxes, found.scores, strict=True)
    ]
    return average_precision(ground_truth, results)[1]["mAP_50"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_pycocotools(seed, ties, fake):
    prepared = pool_cases(fake.cases(seed, 30))
    fused = [pool.best_first() for pool in prepared.pools]
    if ties:
        fused = [NormBoxes(f.boxes, np.round(f.scores, 1), f.labels).best_first() for f in fused]
    area = mean_ap_50(fused, prepared.truths)
    assert 0.2 < area < 0.98
    assert area == pytest.approx(by_pycocotools(fused, prepared.truths), abs=1e-9)


def test_only_the_best_hundred_boxes_of_an_image_count_as_in_pycocotools():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (150, 2))
    boxes = np.vstack([np.hstack([low, low + 0.1]), [[0.6, 0.6, 0.9, 0.9]]])
    fused = [NormBoxes(boxes, np.linspace(1, 0.1, 151), np.zeros(151, np.int64))]
    truths = [np.array([[0.6, 0.6, 0.9, 0.9]])]
    assert mean_ap_50(fused, truths) == by_pycocotools(fused, truths) == 0


def test_nothing_found_is_an_area_of_nothing():
    nothing = NormBoxes(NOTHING, np.zeros(0), np.zeros(0, np.int64))
    assert mean_ap_50([nothing], [np.array([[0, 0, 1, 1]])]) == 0


def test_groups_and_shares():
    truth = [[0, 0, 50, 50]]
    cases = [FusionCase([ONE], (100, 200), truth, group) for group in ("b", "", "b", "")]
    prepared = pool_cases(cases)
    assert prepared.truths[0].tolist() == [[0, 0, 0.25, 0.5]]
    assert prepared.groups[0] == prepared.groups[2]
    assert len(set(prepared.groups.tolist())) == 3
    assert len(prepared.take(np.array([1, 3]))) == 2


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "without validation images"),
        ([FusionCase([], (9, 9), NOTHING)], "case 0: 0 members"),
        ([FusionCase([ONE], (9, 9), [[0, 0, 1, 1]]), FusionCase([ONE, ONE], (9, 9), NOTHING)], "case 1: 2 members"),
        ([FusionCase([ONE], (9, 9), NOTHING)], "none has a true box"),
        ([FusionCase([ONE], (9, 9), [[0, 0, float("nan"), 1]])], "case 0: true boxes must be finite"),
        ([FusionCase([ONE], (9, 9), [0, 0, 1, 1])], r"case 0: true boxes must be finite and \(N, 4\), not \(4,\)"),
        (
            [FusionCase([ONE, Detections([[0, 0, 1, 1]], [0.5], [3])], (9, 9), [[0, 0, 1, 1]])],
            r"one class, but the boxes are of 2: \[0, 3\]",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_line(cases, message):
    with pytest.raises(DataError, match=message) as error:
        pool_cases(cases)
    assert "\n" not in str(error.value)
