from pathlib import Path

import mmdet
import pytest

from covidmm.engine.config import load_config
from covidmm.engine.config_keys import Checker, arguments
from covidmm.errors import ConfigError

SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"
FAMILIES = (
    "faster_rcnn", "retinanet", "yolox", "fcos", "cascade_rcnn", "rtmdet", "detr", "atss", "dino", "mask_rcnn",
    "ssd", "centernet", "gfl", "tood", "vfnet", "efficientnet", "deformable_detr", "libra_rcnn",
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_configs_that_mmdet_ships_raise_no_false_alarm(family):
    found = sorted(p for p in (SHIPPED / family).glob("*_coco.py") if "tta" not in p.name)
    if not found:
        pytest.skip(f"this distribution of mmdet ships no {SHIPPED / family}")
    for path in found[:: max(1, len(found) // 3)]:
        load_config(path)


@pytest.mark.parametrize(
    "name",
    [
        "ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py",
        "pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py",
        "pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py",
    ],
)
def test_operations_and_filters_under_less_common_keys_raise_no_false_alarm(name):
    load_config(SHIPPED / name)


def test_a_filter_that_the_data_set_does_not_read_is_refused():
    with pytest.raises(ConfigError, match=r"unknown key 'train_dataloader.dataset.filter_cfg.bbox_min_size'"):
        load_config(
            SHIPPED / "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
            ["train_dataloader.dataset.filter_cfg.bbox_min_size=3"],
        )


class Base:
    def __init__(self, a, b=1):
        pass


class Handing(Base):
    def __init__(self, c=2, **kwargs):
        super().__init__(**kwargs)


class Open(Base):
    def __init__(self, d=3, **kwargs):
        self.kept = kwargs


def function(x, *, y=1):
    pass


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Base, {"a", "b"}),
        (Handing, {"a", "b", "c"}),
        (Open, None),
        (function, {"x", "y"}),
        (lambda **anything: None, None),
    ],
)
def test_arguments_are_followed_up_the_bases(kind, expected):
    assert arguments(kind) == expected


def test_the_top_level_is_the_runner_s():
    assert {"model", "train_cfg", "visualizer", "custom_hooks", "auto_scale_lr"} <= Checker.top_level_keys()
