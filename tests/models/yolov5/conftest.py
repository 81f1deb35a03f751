"""Small YOLOv5 parts, built from the same configs that experiments use."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.engine.config import load_config

SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
P6_CHANNELS = [256, 512, 768, 1024]
P6_ANCHORS = [
    [(19, 27), (44, 40), (38, 94)],
    [(96, 68), (86, 152), (180, 137)],
    [(140, 301), (303, 264), (238, 542)],
    [(436, 615), (739, 380), (925, 792)],
]


@pytest.fixture(scope="session")
def yolov5_config():
    """``config(size, arch, num_classes)``: a model's config dict, derived from configs/yolov5l_siim.py."""
    from pathlib import Path

    base = load_config(Path(__file__).parents[3] / "configs/yolov5l_siim.py").model

    def config(size="n", arch="P5", num_classes=1):
        init_default_scope("mmdet")
        model = copy.deepcopy(base)
        deepen, widen = SIZES[size]
        model.init_cfg = None
        model.data_preprocessor.batch_augments = None
        model.backbone.update(deepen_factor=deepen, widen_factor=widen, arch=arch)
        model.neck.update(deepen_factor=deepen, widen_factor=widen)
        model.bbox_head.update(widen_factor=widen, num_classes=num_classes)
        if arch == "P6":
            model.backbone.out_indices = (2, 3, 4, 5)
            model.neck.in_channels = model.bbox_head.in_channels = P6_CHANNELS
            model.bbox_head.prior_generator.update(base_sizes=P6_ANCHORS, strides=[8, 16, 32, 64])
            model.data_preprocessor.pad_size_divisor = 64
        return ConfigDict(model)

    return config


@pytest.fixture
def yolov5(yolov5_config):
    """``build(size, arch, num_classes)``: a seeded model in evaluation mode."""

    def build(*args, **kwargs):
        torch.manual_seed(0)
        model = MODELS.build(yolov5_config(*args, **kwargs))
        model.init_weights()
        model.eval()
        return model

    return build
