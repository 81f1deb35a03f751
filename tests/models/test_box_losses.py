"""The facts behind docs/box-losses.md: why an IoU loss needs decoded boxes and a weight of 10."""

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from torchvision.ops import box_iou


@pytest.fixture(scope="module")
def positives():
    torch.manual_seed(0)
    corner = torch.rand(4096, 2) * 200
    truth = torch.cat([corner, corner + 60 + torch.rand(4096, 2) * 150], 1)
    proposals = truth + torch.randn(4096, 4) * 18
    overlap = torch.diag(box_iou(proposals, truth))
    return proposals[overlap > 0.5], truth[overlap > 0.5]


def gradient_norm(positives, loss, decoded):
    proposals, truth = positives
    coder = TASK_UTILS.build({"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]})
    deltas = torch.zeros(len(proposals), 4, requires_grad=True)
    predicted = coder.decode(proposals, deltas) if decoded else deltas
    target = truth if decoded else coder.encode(proposals, truth)
    MODELS.build({**loss, "reduction": "sum"})(predicted, target).backward()
    return float(deltas.grad.norm(dim=1).mean())


SMOOTH_L1 = {"type": "SmoothL1Loss", "beta": 1 / 9}


@pytest.mark.parametrize("name", ["CIoULoss", "DIoULoss", "GIoULoss"])
def test_on_decoded_boxes_a_weight_of_ten_matches_smooth_l1(positives, name):
    smooth = gradient_norm(positives, SMOOTH_L1, decoded=False)
    alone = gradient_norm(positives, {"type": name}, decoded=True)
    weighted = gradient_norm(positives, {"type": name, "loss_weight": 10.0}, decoded=True)
    assert 9 < smooth / alone < 11
    assert weighted == pytest.approx(smooth, rel=0.1)


def test_on_deltas_giou_explodes(positives):
    assert gradient_norm(positives, {"type": "GIoULoss"}, decoded=False) > 1000
