"""covidmm.utils.mmcv_ops against torchvision and closed forms."""

import importlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

import covidmm  # noqa: F401 - serves mmcv._ext
from covidmm.utils.mmcv_ops.served import Ops

if not isinstance(importlib.import_module("mmcv._ext"), Ops):
    pytest.skip("this mmcv has compiled ops, covidmm.utils.mmcv_ops steps aside", allow_module_level=True)

from mmcv.ops import RoIAlign, batched_nms, deform_conv2d, nms, soft_nms
from mmcv.ops.focal_loss import SigmoidFocalLossFunction

DEVICES = [("cpu", torch.float32)] + (
    [("cuda", torch.float32), ("cuda", torch.float16)] if torch.cuda.is_available() else []
)


def random_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], 1)
    return boxes, torch.rand(count, generator=generator)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), seed=st.integers(0, 999), threshold=st.floats(0.05, 0.95))
def test_nms_keeps_what_torchvision_keeps(count, seed, threshold):
    boxes, scores = random_boxes(count, seed)
    dets, kept = nms(boxes, scores, threshold)
    expected = torchvision.ops.nms(boxes, scores, threshold)
    assert kept.tolist() == expected.tolist()
    assert torch.equal(dets, torch.cat([boxes[expected], scores[expected, None]], 1))


def test_nms_offset_counts_pixels_inclusively():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])  # 10x10 and 10x5 pixels: IoU exactly 0.5
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.499, offset=1)[1].tolist() == [0]
    assert nms(boxes, scores, 0.501, offset=1)[1].tolist() == [0, 1]


def test_batched_nms_keeps_classes_apart():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10]] * 2), torch.tensor([0.9, 0.8])
    dets, _ = batched_nms(boxes, scores, torch.tensor([0, 1]), {"type": "nms", "iou_threshold": 0.5})
    assert len(dets) == 2


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_decays_by_the_paper(method):
    boxes, scores = random_boxes(30, 7)
    dets, kept = soft_nms(boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method)

    iou = torchvision.ops.box_iou(boxes, boxes)
    decayed, chosen = scores.clone(), []
    while len(chosen) < len(boxes):
        best = max((i for i in range(len(boxes)) if i not in chosen), key=lambda i: float(decayed[i]))
        if chosen and decayed[best] < 1e-3:
            break
        chosen.append(best)
        for i in set(range(len(boxes))) - set(chosen):
            overlap = float(iou[best, i])
            if method == "gaussian":
                decayed[i] *= np.exp(-(overlap**2) / 0.5)
            elif overlap >= 0.3:
                decayed[i] *= 1 - overlap if method == "linear" else 0
    assert kept.tolist() == chosen
    assert torch.allclose(dets[:, 4], decayed[chosen], atol=1e-6)


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_equals_torchvision_in_value_and_gradient(device, dtype, sampling_ratio, aligned):
    features = torch.rand(2, 3, 16, 20, device=device, dtype=dtype, requires_grad=True)
    twin = features.detach().float().clone().requires_grad_()
    rois = torch.tensor([[0, 1.0, 2, 60, 50], [1, 10, 4, 33, 61], [1, 0, 0, 79, 63]], device=device)
    pooled = RoIAlign(7, 0.25, sampling_ratio, aligned=aligned)(features, rois.to(dtype))
    expected = torchvision.ops.roi_align(twin, rois, 7, 0.25, sampling_ratio, aligned)
    tolerance = 1e-6 if dtype == torch.float32 else 5e-3
    assert pooled.dtype == dtype
    assert torch.allclose(pooled.float(), expected, atol=tolerance)
    weights = torch.rand_like(expected)
    (pooled.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(features.grad.float(), twin.grad, atol=1e-5 if dtype == torch.float32 else 5e-2)


def test_roi_align_of_a_linear_ramp_is_its_value_at_the_bin_centres():
    ramp = torch.arange(32.0).repeat(32, 1)[None, None]
    pooled = RoIAlign(2, 1.0, 2, aligned=True)(ramp, torch.tensor([[0, 4.0, 4, 20, 20]]))
    assert torch.allclose(pooled[0, 0], torch.tensor([[7.5, 15.5], [7.5, 15.5]]))


def test_roi_align_takes_bfloat16_features_as_cpu_autocast_makes_them():
    features = torch.rand(1, 2, 8, 8)
    rois = torch.tensor([[0, 0.0, 0, 8, 8]])
    pooled = RoIAlign(2, 1.0, 2)(features.bfloat16(), rois)
    assert pooled.dtype == torch.bfloat16
    assert torch.allclose(pooled.float(), RoIAlign(2, 1.0, 2)(features, rois), atol=1e-2)


@pytest.mark.parametrize("weighted", [True, False])
def test_focal_loss_equals_torchvision_in_value_and_gradient(weighted):
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 1, 3])  # 3 is background
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64) if weighted else None
    truth = torch.nn.functional.one_hot(target, 4)[:, :3].double()
    per_row = weight[target.clamp(max=2)][:, None] if weighted else 1.0
    twin = logits.detach().clone().requires_grad_()
    expected = (torchvision.ops.sigmoid_focal_loss(twin, truth, 0.25, 2.0) * per_row).sum()
    loss = SigmoidFocalLossFunction.apply(logits, target, 2.0, 0.25, weight, "sum")
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(logits.grad, twin.grad, atol=1e-6)


def test_an_op_that_is_not_served_says_which_and_what_to_do():
    image, offset, kernel = torch.rand(1, 1, 5, 5), torch.zeros(1, 18, 3, 3), torch.rand(1, 1, 3, 3)
    with pytest.raises(NotImplementedError, match=r"deform_conv.*not served.*MMCV_WITH_OPS=1"):
        deform_conv2d(image, offset, kernel)
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        RoIAlign(2, pool_mode="max")(torch.rand(1, 1, 4, 4), torch.tensor([[0, 0.0, 0, 4, 4]]))


def test_the_module_has_a_spec_as_mmengine_needs():
    assert importlib.util.find_spec("mmcv._ext").name == "mmcv._ext"


def test_a_compiled_module_wins(tmp_path):
    """A fake mmcv with a '_ext' of its own must be left alone."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_ext.py").write_text("COMPILED = True\n")
    code = """
        import covidmm, mmcv._ext
        assert mmcv._ext.COMPILED
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
    )


def test_importing_covidmm_imports_neither_torch_nor_mmcv():
    code = "import sys, covidmm; assert not {'torch', 'mmcv', 'mmdet', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
