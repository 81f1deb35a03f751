"""YOLOv5's augmentations, and the published package on the same seeds and inputs where it is installed."""

import importlib.util
import random

import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.errors import ConfigError

needs_reference = pytest.mark.skipif(
    importlib.util.find_spec("yolov5") is None, reason="the reference package yolov5 (extra 'parity') is not installed"
)
MOSAIC = [
    {"type": "Mosaic", "img_scale": (64, 64)},
    {"type": "CentredAffine", "border": (-32, -32), "min_bbox_size": 2, "min_area_ratio": 0.1},
]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


def sample(value=None, boxes=((10, 10, 30, 40),), size=64, seed=0):
    image = np.random.RandomState(seed).randint(0, 256, (size, size, 3)).astype(np.uint8)
    return {
        "img": image if value is None else np.full_like(image, value),
        "gt_bboxes": HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.zeros(len(boxes), int),
        "gt_ignore_flags": np.zeros(len(boxes), bool),
    }


class Numbered:
    """Image i is all 20 i and has its box at x = i."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return sample(20 * index, [(index, 10, 30, 40)])


def mixed(seed, first=None, **settings):
    np.random.seed(seed)
    mixup = TRANSFORMS.build({"type": "YOLOv5MixUp", **settings})
    indexes = mixup.get_indexes(Numbered())
    first = (first or sample(100)) | {"mix_results": [Numbered()[index] for index in indexes]}
    return indexes, mixup(first)


def test_mixup_happens_as_often_as_told_and_loads_nothing_otherwise():
    counts = [len(mixed(seed, prob=0.3)[0]) for seed in range(200)]
    assert set(counts) == {0, 1}
    assert 40 <= sum(counts) <= 80
    assert mixed(1, prob=0.0)[1]["gt_bboxes"].tensor.tolist() == [[10, 10, 30, 40]]


def test_mixup_keeps_the_boxes_of_both_and_draws_its_weight():
    weights = []
    for seed in range(40):
        (index,), found = mixed(seed)
        assert found["gt_bboxes"].tensor.tolist() == [[10, 10, 30, 40], [index, 10, 30, 40]]
        assert len(found["gt_bboxes_labels"]) == len(found["gt_ignore_flags"]) == 2
        assert found["img"].dtype == np.uint8
        if index != 5:
            weights.append((found["img"][0, 0, 0] - 20 * index) / (100 - 20 * index))
    # Beta(32, 32) has a standard deviation of 0.062
    assert 0.03 < np.std(weights) < 0.1
    assert np.mean(weights) == pytest.approx(0.5, abs=0.05)


def test_the_second_image_is_a_mosaic_of_its_own():
    indexes, found = mixed(3, pre_transform=MOSAIC)
    assert len(indexes) == 4
    assert found["img"].shape == (64, 64, 3)
    # the first is plain 100: more than one other grey was mixed in
    assert len(np.unique(found["img"])) > 2
    assert (found["gt_bboxes"].tensor >= 0).all()
    assert (found["gt_bboxes"].tensor <= 64).all()


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ConfigError, match="different sizes, 32x32 and 64x64"):
        mixed(0, sample(size=32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prob": 1.5}, "prob must lie in 0..1, not 1.5"),
        ({"alpha": 0}, "alpha and beta must be above 0"),
        ({"pre_transform": [MOSAIC[0], MOSAIC[0]]}, "one transform that mixes"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TRANSFORMS.build({"type": "YOLOv5MixUp", **settings})


def hsv(image, seed, **deltas):
    np.random.seed(seed)
    return TRANSFORMS.build({"type": "YOLOv5HSVRandomAug", **deltas})({"img": image})["img"]


def test_a_grey_image_becomes_darker_or_brighter_and_stays_grey():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    for seed in range(20):
        np.random.seed(seed)
        factor = 1 + 0.4 * np.random.uniform(-1, 1, 3)[2]
        found = hsv(grey.copy(), seed)
        np.testing.assert_array_equal(found[0, :, 0], np.minimum(np.arange(256) * factor, 255).astype(np.uint8))
        assert (found == found[..., :1]).all()
        np.testing.assert_array_equal(found, hsv(grey.copy(), seed, hue_delta=0, saturation_delta=0))


def test_other_pixels_than_8_bit_colours_are_refused():
    with pytest.raises(ConfigError, match=r"\(H, W, 3\) uint8, got \(4, 4, 3\) float32"):
        hsv(np.zeros((4, 4, 3), np.float32), 0)
    with pytest.raises(ConfigError, match="must lie in"):
        TRANSFORMS.build({"type": "YOLOv5HSVRandomAug", "hue_delta": 2})


@needs_reference
def test_hsv_as_published():
    from yolov5.utils.augmentations import augment_hsv

    for seed in range(10):
        wanted = sample(seed=seed)["img"]
        found = hsv(wanted.copy(), seed)
        np.random.seed(seed)
        augment_hsv(wanted, 0.015, 0.7, 0.4)
        np.testing.assert_array_equal(found, wanted)


@needs_reference
def test_mixup_as_published():
    from yolov5.utils.augmentations import mixup

    first, second = sample(seed=1), sample(seed=2, boxes=[(1, 2, 9, 9), (5, 5, 60, 60)])
    np.random.seed(7)
    image, boxes = mixup(first["img"], first["gt_bboxes"].numpy(), second["img"], second["gt_bboxes"].numpy())
    np.random.seed(7)
    found = TRANSFORMS.build({"type": "YOLOv5MixUp"})({**first, "mix_results": [second]})
    np.testing.assert_array_equal(found["img"], image)
    np.testing.assert_array_equal(found["gt_bboxes"].numpy(), boxes)


@needs_reference
def test_the_affine_transform_as_published(monkeypatch):
    """The same numbers drawn: the same boxes, the same ones left, and pixels half a pixel's scaling apart at most."""
    from yolov5.utils.augmentations import random_perspective

    affine = TRANSFORMS.build(
        {
            "type": "CentredAffine",
            "max_rotate_degree": 10.0,
            "max_translate_ratio": 0.1,
            "max_shear_degree": 5.0,
            "border": (-64, -64),
            "min_bbox_size": 2,
            "min_area_ratio": 0.1,
            "max_aspect_ratio": 100,
        }
    )
    left = 0
    for seed in range(30):
        rng = np.random.RandomState(seed)
        corners = rng.uniform(0, 256, (20, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, 60, (20, 2))], 1).clip(0, 256).astype(np.float32)
        image = np.repeat(np.repeat(rng.randint(0, 256, (16, 16, 3)), 16, 0), 16, 1).astype(np.uint8)
        np.random.seed(seed)
        degrees, scale, x_shear, y_shear, x, y = (
            np.random.uniform(*span) for span in ((-10, 10), (0.5, 1.5), (-5, 5), (-5, 5), (-0.1, 0.1), (-0.1, 0.1))
        )
        # perspective first; its rotation is counter-clockwise
        drawn = iter([0.0, 0.0, -degrees, scale, x_shear, y_shear, 0.5 + x, 0.5 + y])
        monkeypatch.setattr(random, "uniform", lambda *_, drawn=drawn: next(drawn))
        wanted, rows = random_perspective(
            image.copy(), np.insert(boxes, 0, np.arange(20), 1), degrees=10, scale=0.5, shear=5, border=(-64, -64)
        )
        np.random.seed(seed)
        given = {
            "img": image,
            "gt_bboxes": HorizontalBoxes(torch.from_numpy(boxes)),
            "gt_bboxes_labels": np.arange(20),
            "gt_ignore_flags": np.zeros(20, bool),
        }
        found = affine(given)
        np.testing.assert_array_equal(found["gt_bboxes_labels"], rows[:, 0])
        np.testing.assert_allclose(found["gt_bboxes"].numpy(), rows[:, 1:], atol=1e-2)
        assert np.abs(found["img"].astype(int) - wanted).mean() < 5
        left += len(rows)
    assert 100 < left < 500  # some go, some stay
