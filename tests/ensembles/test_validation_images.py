import numpy as np
import pytest

from covidmm.ensembles.pooled_boxes import NormBoxes
from covidmm.ensembles.validation_images import FusionCase, group_numbers, mean_ap_50, require_cases
from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import coco_results, coco_truth
from covidmm.evaluation.detection import average_precision
from covidmm.findings import Detections

ONE = Detections([[0, 0, 9, 9]], [0.5])
NOTHING = np.zeros((0, 4))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_pycocotools(seed, ties, fake):
    cases = fake.cases(seed, 30)
    fused = [case.pool.best_first() for case in cases]
    if ties:
        fused = [NormBoxes(f.boxes, np.round(f.scores, 1), f.labels).best_first() for f in fused]
    area = mean_ap_50(fused, cases)
    assert 0.2 < area < 0.98
    images = [{"id": number} for number in range(len(cases))]
    found = [Detections(one.boxes, one.scores) for one in fused]
    results = coco_results(images, found)
    assert area == pytest.approx(
        average_precision(coco_truth(images, [case.truths_norm for case in cases]), results)[1]["mAP_50"], abs=1e-9
    )


def test_only_the_best_hundred_boxes_of_an_image_count_as_in_pycocotools():
    boxes = np.vstack([np.tile([[0, 0, 0.1, 0.1]], (100, 1)), [[0.6, 0.6, 0.9, 0.9]]])
    truth = [FusionCase([], (10, 10), [[6, 6, 9, 9]])]
    areas = []
    for keep in (slice(None), slice(1, None)):
        count = len(boxes[keep])
        areas.append(mean_ap_50([NormBoxes(boxes[keep], np.linspace(1, 0.1, count), np.zeros(count, int))], truth))
    assert areas == [0, pytest.approx(0.01)]


def test_nothing_found_is_an_area_of_nothing():
    nothing = NormBoxes(NOTHING, np.zeros(0), np.zeros(0, np.int64))
    assert mean_ap_50([nothing], [FusionCase([], (1, 1), [[0, 0, 1, 1]])]) == 0


def test_groups_and_shares():
    truth = [[0, 0, 50, 50]]
    cases = [FusionCase([ONE], (100, 200), truth, group) for group in ("b", "", "b", "")]
    assert require_cases(cases) == 1
    assert cases[0].truths_norm.tolist() == [[0, 0, 0.25, 0.5]]
    groups = group_numbers(cases)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3


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
        require_cases(cases)
    assert "\n" not in str(error.value)
