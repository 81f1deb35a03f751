import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

import covidmm.datasets.transforms  # noqa: F401 - registers


def sample(boxes, height=60, width=80):
    """An image whose pixel (y, x) says where it came from, so that a crop can be checked."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 7)], -1)
    return {
        "img": image,
        "img_shape": image.shape[:2],
        "gt_bboxes": HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.zeros(len(boxes), int),
        "gt_ignore_flags": np.zeros(len(boxes), bool),
    }


@st.composite
def box_lists(draw):
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, x2 = sorted(draw(st.lists(st.integers(0, 80), min_size=2, max_size=2, unique=True)))
        y1, y2 = sorted(draw(st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True)))
        boxes.append([x1, y1, x2, y2])
    return boxes


@settings(max_examples=150, deadline=None)
@given(boxes=box_lists(), seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_a_crop_keeps_every_box_whole_and_in_its_place(boxes, seed, share):
    np.random.seed(seed)
    result = TRANSFORMS.build({"type": "BoxSafeRandomCrop", "min_share": share})(sample(boxes))
    height, width = result["img"].shape[:2]
    top, left = (int(v) for v in result["img"][0, 0, :2])
    assert result["img_shape"] == (height, width)
    assert height >= np.ceil(60 * share)
    assert width >= np.ceil(80 * share)
    moved = result["gt_bboxes"].tensor
    assert torch.equal(moved + torch.tensor([left, top, left, top]), torch.tensor(boxes).float().reshape(-1, 4))
    if boxes:
        assert moved.min() >= 0
        assert moved[:, 2].max() <= width
        assert moved[:, 3].max() <= height


def test_crops_vary():
    np.random.seed(0)
    crop = TRANSFORMS.build({"type": "BoxSafeRandomCrop"})
    assert len({crop(sample([[30, 20, 40, 30]]))["img"].shape for _ in range(20)}) > 10


def test_cutout_blackens_discs_only_and_leaves_boxes():
    np.random.seed(3)
    data = sample([[10, 10, 30, 30]])
    before = data["img"].copy()
    result = TRANSFORMS.build({"type": "CircularCutout", "max_holes": 6, "radius": (3, 5)})(data)
    changed = (result["img"] != before).any(-1)
    assert np.all(result["img"][changed] == 0)
    assert 20 < changed.sum() <= 6 * np.pi * 6**2
    assert result["gt_bboxes"].tensor.tolist() == [[10, 10, 30, 30]]


def test_blur_is_a_box_mean():
    data = sample([])
    data["img"] = np.zeros((9, 9, 3), np.uint8)
    data["img"][4, 4] = 90
    blurred = TRANSFORMS.build({"type": "RandomBlur", "kernel_sizes": (3,)})(data)["img"]
    assert np.all(blurred[3:6, 3:6] == 10)
    assert blurred.sum() == 9 * 10 * 3


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "BoxSafeRandomCrop", "min_share": 0},
        {"type": "CircularCutout", "max_holes": 0, "radius": (1, 2)},
        {"type": "CircularCutout", "max_holes": 1, "radius": (5, 2)},
    ],
)
def test_impossible_numbers_are_refused(cfg):
    with pytest.raises(ValueError, match="must"):
        TRANSFORMS.build(cfg)


def test_a_label_vector_is_packed_with_its_image():
    results = {"img": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "gt_label": np.array([0, 1, 0]), "study_id": "s"}
    packed = TRANSFORMS.build({"type": "PackClassInputs"})(results)
    assert packed["inputs"].shape == (3, 2, 4)
    assert packed["inputs"][1, 0, 2] == results["img"][0, 2, 1]
    assert packed["data_samples"].target.tolist() == [0, 1, 0]
    assert packed["data_samples"].target.dtype == np.float32
    assert packed["data_samples"].study_id == "s"
    assert "img_id" not in packed["data_samples"]


def test_a_grey_image_is_loaded_as_mmcv_loads_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    path = str(tmp_path / "grey.png")
    cv2.imwrite(path, pixels)
    found, wanted = (
        TRANSFORMS.build({"type": name})({"img_path": path}) for name in ("LoadGreyImage", "LoadImageFromFile")
    )
    np.testing.assert_array_equal(found.pop("img"), wanted.pop("img"))
    assert found == wanted
