"""The neck: widths and strides in are widths and strides out, and every level sees every other."""

import pytest
import torch

from covidmm.models.yolov5.neck import YOLOv5PAFPN


@pytest.mark.parametrize("channels", [[256, 512, 1024], [256, 512, 768, 1024]])
def test_outputs_have_the_shapes_of_inputs(channels):
    neck = YOLOv5PAFPN(channels, deepen_factor=0.33, widen_factor=0.25).eval()
    features = [torch.randn(1, width // 4, 64 >> i, 32 >> i) for i, width in enumerate(channels)]
    assert [out.shape for out in neck(features)] == [feature.shape for feature in features]


def test_every_output_depends_on_every_input():
    neck = YOLOv5PAFPN(deepen_factor=0.33, widen_factor=0.25).eval()
    features = [torch.randn(1, width, 16 >> i, 16 >> i, requires_grad=True) for i, width in enumerate((64, 128, 256))]
    for out in neck(features):
        gradients = torch.autograd.grad(out.sum(), features, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
