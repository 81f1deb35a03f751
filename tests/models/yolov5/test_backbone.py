"""Sizes against the published parameter counts; shapes, freezing and pooling against torch."""

import pytest
import torch
from torch.nn.functional import max_pool2d

from covidmm.models.yolov5.backbone import ACTIVATION, NORM, FastSpatialPyramidPooling, YOLOv5CSPDarknet

#: Parameters with 80 classes, as the model tables of YOLOv5 7.0 print them.
PUBLISHED = {
    ("n", "P5"): 1_872_157,
    ("s", "P5"): 7_235_389,
    ("m", "P5"): 21_190_557,
    ("l", "P5"): 46_563_709,
    ("x", "P5"): 86_749_405,
    ("n", "P6"): 3_246_940,
    ("s", "P6"): 12_626_620,
    ("m", "P6"): 35_731_932,
    ("l", "P6"): 76_770_172,
    ("x", "P6"): 140_794_780,
}


@pytest.mark.parametrize(("size", "arch"), PUBLISHED, ids="".join)
def test_parameters_are_as_many_as_published(yolov5_config, size, arch):
    from mmdet.registry import MODELS

    with torch.device("meta"):
        model = MODELS.build(yolov5_config(size, arch, num_classes=80))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[size, arch]


@pytest.mark.parametrize(("arch", "levels"), [("P5", 4), ("P6", 5)])
@pytest.mark.parametrize("release", ["v5", "v6"])
def test_every_stage_halves_the_image(arch, levels, release):
    backbone = YOLOv5CSPDarknet(
        arch, release, deepen_factor=0.33, widen_factor=0.25, out_indices=range(levels + 1)
    ).eval()
    shapes = [tuple(out.shape) for out in backbone(torch.zeros(1, 3, 128, 192))]
    widths = [16, 32, 64, 128, 256] if arch == "P5" else [16, 32, 64, 128, 192, 256]
    assert shapes == [(1, width, 128 >> i, 192 >> i) for i, width in enumerate(widths, 1)]


def test_pooling_in_a_row_is_pooling_by_three_windows():
    torch.manual_seed(0)
    pooling = FastSpatialPyramidPooling(8, 5, NORM, ACTIVATION).eval()
    x = torch.randn(1, 8, 20, 24)
    hidden = pooling.conv1(x)
    windows = [max_pool2d(hidden, k, 1, k // 2) for k in (5, 9, 13)]
    assert torch.equal(pooling(x), pooling.conv2(torch.cat([hidden, *windows], 1)))


def test_frozen_stages_neither_learn_nor_drift():
    backbone = YOLOv5CSPDarknet(deepen_factor=0.33, widen_factor=0.25, frozen_stages=1)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(before[name], value)}
    assert changed
    assert not [name for name in changed if name.startswith(("stem", "stage1"))]
    learning = {name.split(".")[0] for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert learning == {"stage2", "stage3", "stage4"}


def test_norm_eval_keeps_statistics():
    backbone = YOLOv5CSPDarknet(deepen_factor=0.33, widen_factor=0.25, norm_eval=True)
    backbone.train()
    backbone(torch.randn(2, 3, 64, 64))
    assert torch.equal(backbone.stem.bn.running_mean, torch.zeros(16))


@pytest.mark.parametrize("wrong", [{"arch": "P7"}, {"release": "v4"}, {"out_indices": (9,)}, {"frozen_stages": 7}])
def test_what_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=r"no YOLOv5 backbone|stages 0 to 4"):
        YOLOv5CSPDarknet(**wrong)
