from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

import covidmm.datasets.affine  # noqa: F401 - registers
from covidmm.errors import ConfigError

MOVES = {
    "shift": {"max_translate_ratio": 0.1},
    "rotation": {"max_rotate_degree": 20.0},
    "scale": {"scaling_ratio_range": (0.5, 1.5)},
    "shear": {"max_shear_degree": 10.0},
}
MOVES["all"] = {key: value for move in MOVES.values() for key, value in move.items()}
SIZES = [(64, 64), (61, 97), (128, 33)]


def affine(border=(0, 0), **moves):
    still = {"max_translate_ratio": 0, "max_rotate_degree": 0, "scaling_ratio_range": (1, 1), "max_shear_degree": 0}
    return TRANSFORMS.build({"type": "CentredAffine", "border": border, "border_val": (0, 0, 0), **still, **moves})


def opencv(drawn, height, width, border=(0, 0)):
    """What was drawn, as OpenCV has it: getRotationMatrix2D about the middle, then shear about it, then the shift."""
    degrees, scale, x_shear, y_shear, x, y = drawn
    columns, rows = width - 2 * border[0], height - 2 * border[1]
    # OpenCV's angle is counter-clockwise, RandomAffine's clockwise
    turn = np.vstack([cv2.getRotationMatrix2D((columns / 2, rows / 2), -degrees, scale), [0, 0, 1]])
    shear = np.eye(3)
    shear[0, 1], shear[1, 0] = np.tan(np.radians([x_shear, y_shear]))
    shear[:2, 2] = [columns / 2, rows / 2] - shear[:2, :2] @ [columns / 2, rows / 2]
    shear[:2, 2] += [x * width + border[0], y * height + border[1]]
    return shear @ turn


def drawn(transform, seed):
    """The six numbers that RandomAffine draws."""
    np.random.seed(seed)
    limits = transform.max_rotate_degree, transform.max_shear_degree, transform.max_translate_ratio
    turn, shear, shift = ((-limit, limit) for limit in limits)
    return [np.random.uniform(*span) for span in (turn, transform.scaling_ratio_range, shear, shear, shift, shift)]


def sample(height, width, boxes):
    rng = np.random.default_rng(height)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 3)
    return {
        "img": image,
        "gt_bboxes": HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.arange(len(boxes)),
        "gt_ignore_flags": np.arange(len(boxes)) % 2 == 1,
    }


@pytest.mark.parametrize("border", [(0, 0), (-8, -5)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("move", MOVES)
def test_image_and_boxes_move_as_opencv_moves_them(move, size, border):
    transform = affine(border, **MOVES[move])
    height, width = size[0] + 2 * border[1], size[1] + 2 * border[0]
    boxes = np.array([[20, 15, 30, 28], [2, 40, 12, 60], [12.5, 20.25, 29, 21]])
    for seed in range(5):
        matrix = opencv(drawn(transform, seed), height, width, border)
        np.random.seed(seed)
        given = sample(*size, boxes)
        pixels = given["img"].copy()
        found = transform(given)
        assert found["img"].shape == (*found["img_shape"], 3) == (height, width, 3)

        x1, y1, x2, y2 = boxes.T
        corners = np.stack([[x1, y1], [x2, y1], [x1, y2], [x2, y2]]).transpose(2, 0, 1)  # (N, 4, 2)
        moved = cv2.transform(corners, matrix[:2])
        wanted = np.concatenate([moved.min(1), moved.max(1)], 1).clip(0, [width, height] * 2)
        kept = ((wanted[:, :2] < [width, height]) & (wanted[:, 2:] > 0)).all(1)
        np.testing.assert_allclose(found["gt_bboxes"].tensor, wanted[kept], atol=1e-3)
        np.testing.assert_array_equal(found["gt_bboxes_labels"], np.arange(3)[kept])
        np.testing.assert_array_equal(found["gt_ignore_flags"], (np.arange(3) % 2 == 1)[kept])

        # OpenCV counts pixels from their middle: the same matrix, half a pixel up and to the left
        matrix[:2, 2] += matrix[:2, :2] @ [0.5, 0.5] - 0.5
        same = cv2.warpAffine(pixels, matrix[:2], (width, height))
        assert np.abs(found["img"].astype(int) - same).mean() < 0.1


def bright_square(height, width):
    given = sample(height, width, [[width // 2 - 6, height // 2 - 4, width // 2 + 6, height // 2 + 4]])
    given["img"][:] = 0
    x1, y1, x2, y2 = given["gt_bboxes"].tensor[0].int().tolist()
    given["img"][y1:y2, x1:x2] = 200
    # soft edges, so that no pixel is lost between the samples of a smaller image
    given["img"] = cv2.GaussianBlur(given["img"], (0, 0), 1.5)
    return given


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("size", SIZES)
def test_a_box_stays_on_its_pixels(size, scale):
    found = affine(scaling_ratio_range=(scale, scale))(bright_square(*size))
    columns, rows = (found["img"][..., 0].astype(float).sum(axis) for axis in (0, 1))
    x1, y1, x2, y2 = found["gt_bboxes"].tensor[0].tolist()
    for edges, profile in (((x1, x2), columns), ((y1, y2), rows)):
        middle = (profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum()
        assert sum(edges) / 2 == pytest.approx(middle, abs=0.06)
    assert (x2 - x1) * (y2 - y1) == pytest.approx(found["img"][..., 0].sum() / 200, rel=0.02)


def test_without_a_shift_the_middle_stays_where_it_is():
    transform = affine(**{**MOVES["all"], "max_translate_ratio": 0})
    for height, width in SIZES:
        moved = transform._get_random_homography_matrix(height, width) @ [width / 2, height / 2, 1]
        np.testing.assert_allclose(moved, [width / 2, height / 2, 1], atol=1e-4)


def test_a_sample_without_boxes_is_moved():
    for boxes in ([], None):
        given = sample(40, 30, boxes or [])
        if boxes is None:
            del given["gt_bboxes"]
        assert affine(**MOVES["all"])(given)["img"].shape == (40, 30, 3)


def test_a_box_that_left_the_image_goes_with_its_label():
    transform = affine()
    matrix = np.array([[1.0, 0, -20], [0, 1, 0], [0, 0, 1]])
    with patch.object(transform, "_get_random_homography_matrix", return_value=matrix):
        found = transform(sample(40, 40, [[5, 5, 15, 15], [10, 5, 30, 15]]))
    assert found["gt_bboxes"].tensor.tolist() == [[0, 5, 10, 15]]
    assert found["gt_bboxes_labels"].tolist() == [1]


def test_masks_are_refused_as_mmdetection_does():
    with pytest.raises(ConfigError, match="moves boxes, not masks; load annotations without with_mask"):
        affine()(sample(8, 8, []) | {"gt_masks": None})
