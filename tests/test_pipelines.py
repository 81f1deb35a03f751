"""The pipelines of all kinds of detectors in configs/ on odd images: finite boxes inside them, pixels in 0..255."""

from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = [
    "configs/frcnn_x101_siim.py",
    "configs/small/frcnn_r18_siim.py",
    "configs/yolov5l_siim.py",
    "configs/small/yolov5n_siim.py",
    "configs/small/retinanet_r18_siim.py",
]
# height, width, boxes: one pixel high at the border, none, all of the image, tiny, long
ODD = {
    "border": (90, 70, [(0, 89, 70, 90), (69, 0, 70, 50)]),
    "empty": (64, 64, []),
    "whole": (65, 33, [(0, 0, 33, 65)]),
    "tiny": (9, 7, [(2, 2, 4, 5)]),
    "long": (20, 400, [(3, 2, 390, 4), (100, 5, 130, 18)]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The odd images, white and noisy, as loaded by a data set."""
    folder = tmp_path_factory.mktemp("odd")
    found = []
    for number, (name, (height, width, boxes)) in enumerate(ODD.items()):
        noise = np.random.RandomState(number).randint(0, 256, (height, width)).astype(np.uint8)
        noise[: height // 2] = 255
        # one file with colours
        cv2.imwrite(str(folder / f"{name}.png"), cv2.applyColorMap(noise, 2) if name == "whole" else noise)
        instances = [{"bbox": list(box), "bbox_label": 0, "ignore_flag": 0} for box in boxes]
        sample = {"img_path": str(folder / f"{name}.png"), "img_id": number, "height": height, "width": width}
        found.append(sample | {"instances": instances, "study_id": "s", "study_class": 0})
    return found


class Images:
    """A data set of the odd images, loaded by a pipeline."""

    def __init__(self, files, pipeline):
        self.files, self.pipeline = files, Compose(pipeline)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.pipeline({**self.files[index], "instances": [dict(i) for i in self.files[index]["instances"]]})


def train_samples(dataset, files):
    """What the training's data set gives for each file, again and again; some pipelines drop an image without a box."""
    if "dataset" not in dataset:
        images = Images(files, dataset.pipeline)
        yield from (images[index] for index in cycle(range(len(files))))
    images = Images(files, dataset.dataset.pipeline)
    steps = [TRANSFORMS.build(step) for step in dataset.pipeline]
    for index in cycle(range(len(files))):
        results = images[index]
        for step in steps:
            if hasattr(step, "get_indexes"):
                results["mix_results"] = [images[other] for other in step.get_indexes(images)]
            results = step(results)
        yield results


def check(packed):
    pixels, sample = packed["inputs"], packed["data_samples"]
    assert pixels.shape[0] == 3
    assert pixels.isfinite().all()
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    assert tuple(sample.img_shape) == tuple(pixels.shape[1:])
    boxes = sample.gt_instances.bboxes.tensor
    assert len(boxes) == len(sample.gt_instances.labels)
    assert boxes.isfinite().all()
    height, width = pixels.shape[1:]
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all()
    assert (boxes[:, 1::2] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    return len(boxes)


@pytest.mark.parametrize("path", CONFIGS)
def test_training_images_and_boxes(path, files):
    cfg = load_config(ROOT / path)
    init_default_scope("mmdet")
    np.random.seed(0)
    found = zip(range(30), train_samples(cfg.train_dataloader.dataset, files), strict=False)
    assert sum(check(packed) for _, packed in found if packed is not None) > 10


@pytest.mark.parametrize("path", CONFIGS)
def test_test_images_and_boxes(path, files):
    cfg = load_config(ROOT / path)
    init_default_scope("mmdet")
    images = Images(files, cfg.test_dataloader.dataset.pipeline)
    for index in range(len(files)):
        pixels = images[index]["inputs"]
        assert pixels.shape[0] == 3
        assert pixels.min() >= 0
        assert pixels.max() <= 255
