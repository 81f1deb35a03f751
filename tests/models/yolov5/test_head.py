"""The head: losses against their definition, gradients, predictions against boxes that its outputs encode."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import box_iou, generalized_box_iou_loss

META = {"img_shape": (64, 96), "ori_shape": (128, 192), "scale_factor": (0.5, 0.5)}


def instances(boxes, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels)
    return InstanceData(bboxes=boxes, labels=labels)


def outputs_of(num_classes=1, batch=2, height=64, width=96, seed=0):
    torch.manual_seed(seed)
    outputs = 3 * (5 + num_classes)
    return [torch.randn(batch, outputs, height // s, width // s, requires_grad=True) for s in (8, 16, 32)]


def slow_losses(head, outputs, truth):
    """Equation (2), one matched anchor at a time, with torchvision's GIoU and torch's cross entropy."""
    sums = {"loss_bbox": 0.0, "loss_obj": 0.0, "loss_cls": 0.0}
    for _level, (output, (stride, _), sizes, balance) in enumerate(
        zip(outputs, head.prior_generator.strides, head.prior_generator.base_sizes, (4.0, 1.0, 0.4), strict=True)
    ):
        rows, columns = output.shape[-2:]
        boxes = torch.cat([one.bboxes for one in truth])
        images = torch.cat([torch.full((len(one.bboxes),), i) for i, one in enumerate(truth)])
        labels = torch.cat([one.labels for one in truth])
        anchors = torch.tensor(sizes, dtype=torch.float32)
        found = head.assigner.assign(boxes, images, anchors, (stride, stride), (rows, columns))
        target = torch.zeros(len(output), 3, rows, columns)
        giou, entropy = [], []
        for box, image, anchor, row, column in zip(
            found.box, found.image, found.anchor, found.row, found.column, strict=True
        ):
            raw = output[image].view(3, -1, rows, columns)[anchor, :, row, column]
            centre = (raw[:2].sigmoid() * 2 - 0.5 + torch.stack((column, row))) * stride
            side = (raw[2:4].sigmoid() * 2) ** 2 * anchors[anchor]
            predicted = torch.cat((centre - side / 2, centre + side / 2))[None]
            giou.append(generalized_box_iou_loss(predicted, boxes[box][None]))
            overlap = (1 - giou[-1][0]).detach().clamp(0)
            wanted = torch.zeros(head.num_classes)
            wanted[labels[box]] = 1
            entropy.append(binary_cross_entropy_with_logits(raw[5:], wanted))
            target[image, anchor, row, column] = max(target[image, anchor, row, column], overlap)
        objectness = output.view(len(output), 3, -1, rows, columns)[:, :, 4]
        sums["loss_obj"] += 0.75 * balance * binary_cross_entropy_with_logits(objectness, target).item()
        if giou:
            sums["loss_bbox"] += 0.075 * torch.cat(giou).mean().item()
            sums["loss_cls"] += 0.05 * torch.stack(entropy).mean().item()
    return {name: value * 64 for name, value in sums.items()}


@pytest.mark.parametrize("num_classes", [1, 3])
def test_losses_are_equation_2(yolov5, num_classes):
    head = yolov5(num_classes=num_classes).bbox_head
    outputs = outputs_of(num_classes)
    labels = [[0, num_classes - 1], [num_classes // 2]]
    truth = [
        instances([[3, 4, 30, 40], [20, 10, 90, 60]], labels[0]),
        instances([[40.0, 20, 60, 55]], labels[1]),
    ]
    losses = head.loss_by_feat(outputs, truth, [META] * 2)
    expected = slow_losses(head, outputs, truth)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)


def test_without_boxes_only_objectness_learns(yolov5):
    outputs = outputs_of()
    losses = yolov5().bbox_head.loss_by_feat(outputs, [instances([]), instances([])], [META] * 2)
    assert float(losses["loss_bbox"].detach()) == float(losses["loss_cls"].detach()) == 0
    sum(losses.values()).backward()
    for output in outputs:
        gradient = output.grad.view(2, 3, 6, *output.shape[-2:])
        assert gradient[:, :, 4].abs().min() > 0
        assert gradient[:, :, [0, 1, 2, 3, 5]].abs().max() == 0


def test_degenerate_boxes_teach_nothing(yolov5):
    head, outputs = yolov5().bbox_head, outputs_of()
    degenerate = instances([[10, 10, 10, 40], [10, 10, 40, 10], [30, 30, 20, 20]])
    with_them = head.loss_by_feat(outputs, [degenerate, instances([])], [META] * 2)
    without = head.loss_by_feat(outputs, [instances([]), instances([])], [META] * 2)
    assert with_them == without


@pytest.mark.parametrize("loss", ["GIoULoss", "CIoULoss", "DIoULoss", "IoULoss"])
def test_every_box_loss_moves_the_box_to_its_truth(yolov5_config, loss):
    from mmdet.registry import MODELS

    config = yolov5_config()
    mode = {"mode": "linear"} if loss == "IoULoss" else {}
    config.bbox_head.loss_bbox = dict(type=loss, loss_weight=1.0, **mode)
    head = MODELS.build(config.bbox_head)
    outputs = [torch.zeros(1, 18, 64 // s, 96 // s, requires_grad=True) for s in (8, 16, 32)]
    truth = [instances([[20.0, 10, 75, 50]])]
    optimizer = torch.optim.Adam(outputs, lr=0.1)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        value = head.loss_by_feat(outputs, truth, [META])["loss_bbox"]
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize("loss", ["GIoULoss", "CIoULoss", "DIoULoss", "IoULoss"])
def test_objectness_learns_the_overlap_that_the_box_loss_measures(yolov5_config, loss):
    from mmdet.registry import MODELS

    config = yolov5_config().bbox_head
    config.loss_bbox = {"type": loss, "loss_weight": 0.075}
    head = MODELS.build(config)
    torch.manual_seed(0)
    corners = torch.rand(50, 2, 2) * 100
    boxes, truth = (torch.cat((part, part + 1 + torch.rand(50, 2) * 80), 1) for part in corners.unbind(1))
    if loss == "IoULoss":  # a logarithm
        wanted = box_iou(boxes, truth).diagonal()
    else:
        wanted = 1 - head.loss_bbox(boxes, truth, reduction_override="none") / 0.075
    assert torch.allclose(head._overlap(boxes, truth), wanted, atol=1e-5)


def test_bfloat16_outputs_are_lifted_to_float32(yolov5):
    head, outputs = yolov5().bbox_head, outputs_of()
    truth = [instances([[3, 4, 30, 40]]), instances([])]
    losses = head.loss_by_feat([output.bfloat16() for output in outputs], truth, [META] * 2)
    assert {value.dtype for value in losses.values()} == {torch.float32}


def test_it_predicts_the_box_that_its_outputs_say(yolov5):
    head = yolov5().bbox_head
    outputs = [torch.full((1, 18, 64 // s, 96 // s), -12.0) for s in (8, 16, 32)]
    # level of stride 16, anchor 62 x 45, cell (row 2, column 3): its own anchor, objectness 0.9, class 0.8
    cell = outputs[1].view(1, 3, 6, 4, 6)[0, 1, :, 2, 3]
    cell[:4] = 0
    cell[4], cell[5] = math.log(9), math.log(4)
    config = ConfigDict(head.test_cfg or {}, score_thr=0.05, nms_pre=100, max_per_img=10)
    config.nms = {"type": "nms", "iou_threshold": 0.5}
    (found,) = head.predict_by_feat(outputs, [META], config, rescale=True)
    assert found.scores.tolist() == pytest.approx([0.72], abs=1e-5)
    # middle (56, 40), clipped to the 96 x 64 image, then to original pixels at twice the size
    expected = torch.tensor([[56 - 31.0, 40 - 22.5, 56 + 31.0, 40 + 22.5]]) * 2
    assert torch.allclose(found.bboxes, expected, atol=1e-4)


def test_a_batch_of_nothing_is_empty(yolov5):
    head = yolov5().bbox_head
    outputs = [torch.full((2, 18, 64 // s, 96 // s), -20.0) for s in (8, 16, 32)]
    config = ConfigDict(score_thr=0.05, nms_pre=100, max_per_img=10, nms={"type": "nms", "iou_threshold": 0.5})
    assert [len(one) for one in head.predict_by_feat(outputs, [META] * 2, config)] == [0, 0]


def test_matched_share(yolov5):
    head = yolov5().bbox_head
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 2000, 2000], [0, 0, 1, 1], [0, 0, 50, 200]])
    assert head.matched_share(boxes) == 0.5


def test_a_fresh_head_expects_few_objects(yolov5):
    head = yolov5(num_classes=80).bbox_head
    for conv, stride in zip(head.convs_pred, (8, 16, 32), strict=True):
        bias = conv.bias.view(3, 85)
        assert bias[:, 4].sigmoid().detach().numpy() == pytest.approx(8 / (640 / stride) ** 2, rel=0.1)
        assert bias[:, 5:].sigmoid().detach().numpy() == pytest.approx(0.6 / 79, rel=0.1)


def test_levels_that_disagree_are_refused(yolov5_config):
    from mmdet.registry import MODELS

    config = yolov5_config().bbox_head
    config.in_channels = [256, 512]
    with pytest.raises(ValueError, match="2 levels of features, 3 of anchors"):
        MODELS.build(config)


def test_a_size_that_32_does_not_divide_is_padded(yolov5):
    model = yolov5()
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo={"img_shape": (70, 91), "ori_shape": (70, 91), "scale_factor": (1.0, 1.0)})
    data = {"inputs": [torch.randint(0, 255, (3, 70, 91), dtype=torch.uint8)], "data_samples": [sample]}
    prepared = model.data_preprocessor(data)
    assert prepared["inputs"].shape == (1, 3, 96, 96)
    assert prepared["inputs"][0, :, 80, 80].tolist() == pytest.approx([114 / 255] * 3)
    with torch.no_grad():
        (found,) = model.test_step(data)
    boxes = found.pred_instances.bboxes
    assert (boxes[:, 2] <= 91).all()
    assert (boxes[:, 3] <= 70).all()


def test_boxes_end_where_the_padding_of_a_letterbox_begins(yolov5):
    """An original of 100 x 192 pixels is 50 x 96 of a padded 64 x 96: no box ends below row 100."""
    head, outputs = yolov5().bbox_head, outputs_of(batch=1)
    config = ConfigDict(score_thr=0.0, nms_pre=1000, max_per_img=300, nms={"type": "nms", "iou_threshold": 0.99})
    meta = META | {"ori_shape": (100, 192)}
    with torch.no_grad():
        (found,) = head.predict_by_feat(outputs, [meta], config, rescale=True)
    assert len(found) > 50
    assert found.bboxes[:, 3].max() == 100
    assert (found.bboxes[:, 2:] > found.bboxes[:, :2]).all()
