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
from covidmm.engine.model_checks import check_ops
from covidmm.errors import ConfigError
from covidmm.utils.mmcv_ops.refusals import OpNotServedError, ops_not_served
from covidmm.utils.mmcv_ops.served import SERVED, Ops

if not isinstance(importlib.import_module("mmcv._ext"), Ops):
    pytest.skip("this mmcv has compiled ops, covidmm.utils.mmcv_ops steps aside", allow_module_level=True)

from mmcv.ops import (
    ModulatedDeformRoIPoolPack,
    PSAMask,
    RoIAlign,
    RoIAlignRotated,
    SAConv2d,
    batched_nms,
    carafe,
    carafe_naive,
    deform_conv2d,
    deform_roi_pool,
    masked_conv2d,
    modulated_deform_conv2d,
    nms,
    nms_match,
    nms_rotated,
    roi_pool,
    soft_nms,
)
from mmcv.ops.focal_loss import SigmoidFocalLossFunction, SoftmaxFocalLossFunction
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

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
    with pytest.raises(NotImplementedError, match=r"nms_rotated.*not served.*MMCV_WITH_OPS=1"):
        nms_rotated(torch.tensor([[5.0, 5, 4, 4, 0.3]]), torch.tensor([0.5]), 0.5)


def test_an_op_that_is_not_served_names_the_part_of_the_network_that_called_it():
    class Head(torch.nn.Module):
        def forward(self, features):
            return RoIAlignRotated(2, 1.0)(features, torch.zeros(1, 6))

    with pytest.raises(OpNotServedError, match=r"roi_align_rotated_forward', called by .*Head, is not served"):
        Head()(torch.rand(1, 1, 4, 4))


def test_parts_that_need_a_compiled_mmcv_are_found_in_the_built_model():
    model = torch.nn.ModuleDict(
        {
            "pool": RoIAlignRotated(2, 1.0),
            "aligned": RoIAlign(2),
            "moved": SAConv2d(2, 2, 3),
            "deep": torch.nn.Sequential(torch.nn.ReLU(), PSAMask("collect", (3, 3))),
        }
    )
    assert dict(ops_not_served(model, SERVED)) == {
        "pool": "RoIAlignRotated needs mmcv's op 'roi_align_rotated_backward'",
        "deep.1": "PSAMask needs mmcv's op 'psamask_backward'",
    }
    with pytest.raises(ConfigError, match=r"model\.pool: RoIAlignRotated needs.*MMCV_WITH_OPS=1"):
        check_ops(model)


def test_the_ops_can_be_installed_without_anything_else_of_covidmm():
    code = """
        import sys
        import covidmm.utils.mmcv_ops
        covidmm.utils.mmcv_ops.install()
        from mmcv.ops import nms
        own = {name for name in sys.modules if name.startswith("covidmm.")}
        ops = {name for name in own if name.startswith("covidmm.utils.mmcv_ops")}
        print(own - ops)
        # what the import of covidmm itself brings, and no more
        brought = {"config_modules", "lazy_imports", "packaged_configs"}
        assert own - ops <= {"covidmm.errors", "covidmm.utils", *(f"covidmm.utils.{name}" for name in brought)}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def sampled(feature, y, x):
    """A map of NumPy at any point, by the formula of Mask R-CNN's RoIAlign."""
    height, width = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, over = y - top, x - left
    upper = feature[top, left] * (1 - over) + feature[top, right] * over
    return upper * (1 - down) + (feature[bottom, left] * (1 - over) + feature[bottom, right] * over) * down


def test_deformable_roi_pooling_is_the_mean_of_moved_points():
    random = np.random.default_rng(0)
    feature, offset = random.normal(size=(9, 12)), random.normal(size=(2, 2, 3))
    region = np.array([5.0, 3, 40, 30])
    left, top, right, bottom = region * 0.25 - 0.5
    step_y, step_x = (bottom - top) / 2, (right - left) / 3
    points_y, points_x = int(np.ceil(step_y)), int(np.ceil(step_x))
    expected = np.zeros((2, 3))
    for row, column in np.ndindex(2, 3):
        moved_x, moved_y = 0.1 * offset[:, row, column] * (right - left, bottom - top)
        values = [
            sampled(
                feature,
                top + moved_y + (row + (i + 0.5) / points_y) * step_y,
                left + moved_x + (column + (j + 0.5) / points_x) * step_x,
            )
            for i, j in np.ndindex(points_y, points_x)
        ]
        expected[row, column] = np.mean(values)
    pooled = deform_roi_pool(
        torch.from_numpy(feature)[None, None],
        torch.tensor([[0, *region]], dtype=torch.float64),
        torch.from_numpy(offset)[None],
        (2, 3),
        0.25,
    )
    np.testing.assert_allclose(pooled[0, 0].numpy(), expected, atol=1e-12)


def test_modulated_deformable_roi_pooling_trains():
    pool = ModulatedDeformRoIPoolPack(3, output_channels=4, deform_fc_channels=8, spatial_scale=0.25)
    features = torch.rand(1, 4, 10, 10, requires_grad=True)
    pooled = pool(features, torch.tensor([[0, 2.0, 3, 30, 33]]))
    pooled.sum().backward()
    assert pooled.shape == (1, 4, 3, 3)
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in pool.parameters())


@pytest.mark.parametrize("region", [(3.0, 2, 30, 27), (-9, -9, 15, 5), (40, 30, 90, 80), (8, 8, 8, 8), (20, 20, 5, 5)])
def test_roi_pool_takes_the_largest_value_of_each_bin(region):
    """Regions that reach over the map, one of a single pixel, one that ends before it begins."""
    feature = torch.randn(1, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    left, top, right, bottom = (side * 0.25 for side in (*region[:2], region[2] + 1, region[3] + 1))
    expected, places = torch.zeros(2, 3, dtype=torch.float64), torch.zeros_like(feature)
    for row, column in np.ndindex(2, 3):
        step_y, step_x = (bottom - top) / 2, (right - left) / 3
        rows = slice(
            *(min(max(int(edge), 0), 9) for edge in (np.floor(top + row * step_y), np.ceil(top + (row + 1) * step_y)))
        )
        columns = slice(
            *(
                min(max(int(edge), 0), 12)
                for edge in (np.floor(left + column * step_x), np.ceil(left + (column + 1) * step_x))
            )
        )
        cell = feature.detach()[0, 0, rows, columns]
        if cell.numel() and right > left:
            expected[row, column] = cell.max()
            place = (cell == cell.max()).nonzero()[0]
            places[0, 0, rows.start + place[0], columns.start + place[1]] += 1
    pooled = roi_pool(feature, torch.tensor([[0, *region]], dtype=torch.float64), (2, 3), 0.25)
    assert torch.equal(pooled[0, 0], expected)
    pooled.sum().backward()
    assert torch.equal(feature.grad, places)


@pytest.mark.parametrize(("kernel", "groups", "scale"), [(1, 1, 2), (3, 2, 2), (5, 1, 3), (5, 4, 1)])
def test_carafe_is_a_sum_over_unfolded_neighbourhoods(kernel, groups, scale):
    features = torch.rand(2, 8, 4, 5, dtype=torch.float64)
    masks = torch.rand(2, groups * kernel**2, 4 * scale, 5 * scale, dtype=torch.float64)
    unfolded = torch.nn.functional.unfold(features, kernel, padding=kernel // 2).view(2, 8 * kernel**2, 4, 5)
    enlarged = unfolded.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    enlarged = enlarged.view(2, groups, 8 // groups, kernel**2, 4 * scale, 5 * scale)
    expected = (enlarged * masks.view(2, groups, 1, kernel**2, 4 * scale, 5 * scale)).sum(3).flatten(1, 2)
    for op in (carafe, carafe_naive):
        assert torch.allclose(op(features, masks, kernel, groups, scale), expected)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((3, 5), (0, 2)), ((1, 1), 0)])
def test_masked_convolution_is_a_convolution_at_the_chosen_pixels(kernel, padding):
    features, weight, bias = torch.randn(1, 3, 7, 8), torch.randn(4, 3, *kernel), torch.randn(4)
    whole = torch.nn.functional.conv2d(features, weight, bias, padding=padding)
    mask = torch.zeros(1, 7, 8)
    mask[:, : whole.shape[2], : whole.shape[3]] = torch.rand(1, *whole.shape[2:]) > 0.5
    found = masked_conv2d(features, mask, weight, bias, padding)
    chosen = mask[:, : whole.shape[2], : whole.shape[3]].bool()[:, None]
    assert torch.allclose(found, torch.where(chosen, whole, 0), atol=1e-5)
    assert not masked_conv2d(features, torch.zeros(1, 7, 8), weight, bias, padding).any()


def test_deformable_attention_of_the_compiled_signature_is_the_papers_sum():
    """Called as MMCV calls it on a GPU; points outside the maps count as 0."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[4, 6], [2, 3]])
    value = torch.rand(2, 30, 2, 5, generator=random, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(2, 7, 2, 2, 3, 2, generator=random, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    attention = torch.rand(2, 7, 2, 2, 3, generator=random, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0, 24])
    found = MultiScaleDeformableAttnFunction.apply(value, sizes, start, places, attention, 64)
    expected = torch.zeros(2, 7, 2, 5, dtype=torch.float64)
    for image, query, head, level, point in np.ndindex(2, 7, 2, 2, 3):
        height, width = sizes[level].tolist()
        grid = value.detach()[image, start[level] : start[level] + height * width, head].view(height, width, 5)
        x, y = (places.detach()[image, query, head, level, point] * torch.tensor([width, height]) - 0.5).tolist()
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    weight = attention.detach()[image, query, head, level, point]
                    expected[image, query, head] += share * weight * grid[row, column]
    assert torch.allclose(found, expected.flatten(2))
    assert torch.autograd.gradcheck(
        lambda *leaves: MultiScaleDeformableAttnFunction.apply(leaves[0], sizes, start, *leaves[1:], 64),
        (value, places, attention),
        fast_mode=True,
    )


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_loss_is_the_papers_in_value_and_gradient(weighted, gamma):
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 2, 1, -1])  # -1 counts for nothing
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64) if weighted else None
    twin = logits.detach().clone().requires_grad_()
    right = twin.softmax(1)[range(5), target[:5]]
    factors = weight[target[:5]] if weighted else 1.0
    expected = (-0.25 * (1 - right) ** gamma * right.log() * factors).sum()
    loss = SoftmaxFocalLossFunction.apply(logits, target, gamma, 0.25, weight, "sum")
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item())
    assert torch.allclose(logits.grad, twin.grad)


def test_a_switchable_atrous_convolution_trains():
    convolution = SAConv2d(4, 4, 3, padding=1, use_deform=True)
    image = torch.rand(1, 4, 8, 8, requires_grad=True)
    convolution(image).sum().backward()
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_offsets_for_another_number_of_groups_are_refused(groups):
    image, weight = torch.rand(1, 4, 5, 5), torch.rand(2, 4, 3, 3)
    offset, mask = torch.zeros(1, 18 * (3 - groups), 5, 5), torch.zeros(1, 9 * (3 - groups), 5, 5)
    with pytest.raises(RuntimeError, match="offset has"):
        deform_conv2d(image, offset, weight, 1, 1, 1, 1, groups)
    with pytest.raises(RuntimeError, match="offset has"):
        modulated_deform_conv2d(image, offset, mask, weight, None, 1, 1, 1, 1, groups)


def test_nms_match_of_a_box_without_an_area_keeps_it():
    groups = nms_match(torch.tensor([[3.0, 3, 3, 3, 0.9], [0, 0, 9, 9, 0.8], [0, 0, 9, 8, 0.7]]), 0.5)
    assert [group.tolist() for group in groups] == [[0], [1, 2]]


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


def test_a_suppression_that_needs_a_compiled_mmcv_is_refused_when_the_model_is_built():
    class Head(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.test_cfg = {"rcnn": {"nms": {"type": kind, "iou_threshold": 0.5}}}

    check_ops(torch.nn.ModuleDict({"head": Head("nms")}))
    check_ops(torch.nn.ModuleDict({"head": Head("soft_nms")}))
    with pytest.raises(ConfigError, match=r"model\.head\.test_cfg\.rcnn\.nms: nms_rotated needs mmcv's op 'nms_"):
        check_ops(torch.nn.ModuleDict({"head": Head("nms_rotated")}))
