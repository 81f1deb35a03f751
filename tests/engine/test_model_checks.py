"""Checks of a built model that needs no data."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.engine.config import read_config
from covidmm.engine.model_checks import check_box_losses, check_channels, check_queries, frozen_at_random
from covidmm.engine.preflight import PreflightHook
from covidmm.errors import ConfigError

FRCNN = "configs/small/frcnn_r18_siim.py"
RETINA = "configs/small/retinanet_r18_siim.py"
YOLO = "configs/small/yolov5n_siim.py"
STUDY = "configs/small/study_r18_siim.py"
GIOU = {"_delete_": True, "type": "GIoULoss"}


@pytest.fixture
def build(request):
    def built(config, changes=None):
        cfg = read_config(request.config.rootpath / config)
        cfg.merge_from_dict({f"model.{key}": value for key, value in (changes or {}).items()})
        init_default_scope("mmdet")
        return MODELS.build(ConfigDict(cfg.model))

    return built


@pytest.mark.parametrize(
    ("config", "head"),
    [(FRCNN, "roi_head.bbox_head"), (FRCNN, "rpn_head"), (RETINA, "bbox_head")],
)
def test_a_loss_of_overlaps_on_deltas_is_refused(build, config, head):
    with pytest.raises(ConfigError, match=rf"model\.{head}\.loss_bbox is GIoULoss.*{head}\.reg_decoded_bbox=True"):
        check_box_losses(build(config, {f"{head}.loss_bbox": GIOU}))
    check_box_losses(build(config, {f"{head}.loss_bbox": GIOU, f"{head}.reg_decoded_bbox": True}))


@pytest.mark.parametrize("head", ["YOLOv5Head", "ATSSHead", "FCOSHead"])
def test_a_head_that_decodes_anyway_passes(build, head):
    if head == "YOLOv5Head":
        check_box_losses(build(YOLO))
    else:
        shared = {"num_classes": 1, "in_channels": 32, "feat_channels": 32, "stacked_convs": 1}
        check_box_losses(torch.nn.Sequential(MODELS.build({"type": head, **shared, "loss_bbox": {"type": "GIoULoss"}})))


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (FRCNN, {"neck.in_channels": [256, 512, 1024, 2048]}, r"neck.in_channels is \[256, 512, 1024, 2048\], "),
        (
            FRCNN,
            {"backbone.out_indices": (1, 2, 3)},
            r"is .64, 128, 256, 512., model.backbone gives .128, 256, 512.",
        ),
        (FRCNN, {"rpn_head.in_channels": 64}, r"model\.rpn_head\.in_channels is 64, model\.neck gives \[128, 128"),
        (FRCNN, {"roi_head.bbox_roi_extractor.out_channels": 64}, r"extractor\.out_channels is 64, .* gives \[128\]"),
        (
            FRCNN,
            {"rpn_head.anchor_generator.strides": [4, 8]},
            r"model\.rpn_head: its anchors or points have 2 strides, model\.neck gives 5 maps",
        ),
        (RETINA, {"bbox_head.in_channels": 64}, r"model\.bbox_head\.in_channels is 64, model\.neck gives \[256, 256"),
    ],
)
def test_channels_that_do_not_meet_are_named(build, config, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_channels(build(config, changes))


@pytest.mark.parametrize("config", [FRCNN, RETINA, YOLO, STUDY])
def test_a_model_whose_channels_meet_is_left_as_it_was(build, config):
    model = build(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    check_channels(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_the_preflight_checks_the_model_before_its_weights_are_read(build):
    hook = PreflightHook()
    with pytest.raises(ConfigError, match=r"neck\.in_channels is "):
        hook.before_run(SimpleNamespace(model=build(FRCNN, {"neck.in_channels": [256, 512, 1024, 2048]})))
    with pytest.raises(ConfigError, match="reg_decoded_bbox=True"):
        hook.before_run(SimpleNamespace(model=build(FRCNN, {"rpn_head.loss_bbox": GIOU})))


@pytest.mark.parametrize(
    ("name", "queries", "limit"),
    [
        ("dino/dino-4scale_r50_8xb2-12e_coco", "num_queries", "test_cfg.max_per_img"),
        ("detr/detr_r50_8xb2-150e_coco", "num_queries", "test_cfg.max_per_img"),
        ("sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco", "rpn_head.num_proposals", "test_cfg.rcnn.max_per_img"),
    ],
)
def test_a_detector_of_fewer_queries_than_boxes_to_return_is_refused(name, queries, limit):
    """With 80 classes twenty queries have scores enough, with one they do not."""
    init_default_scope("mmdet")
    cfg = get_config(f"mmdet::{name}.py")
    cfg.merge_from_dict({f"model.{queries}": 20, f"model.{limit}": 30})
    heads = cfg.model.get("roi_head", cfg.model).bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.num_classes = 1
    with torch.device("meta"):
        model = MODELS.build(deepcopy(cfg.model))  # DINO writes into it
        cfg.merge_from_dict({f"model.{limit}": 20})
        enough = MODELS.build(cfg.model)
    with pytest.raises(ConfigError, match=rf"model\.{limit} is 30, model\.{queries} is 20.*set model\.{limit}=20"):
        check_queries(model)
    check_queries(enough)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone.frozen_stages": 1}, "parameters are frozen (from conv1.weight)"),
        ({"backbone.norm_eval": True}, "its batch norms keep their first statistics"),
        ({"backbone.norm_cfg.requires_grad": False}, "parameters are frozen (from bn1.weight)"),
    ],
)
def test_what_cannot_learn_must_come_from_a_file(build, changes, said):
    model = build(FRCNN, changes)
    cfg = {"model": {"backbone": {"type": "ResNet", "init_cfg": None}}, "pretrained": "none"}
    assert said in frozen_at_random(model, cfg)
    assert frozen_at_random(model, {**cfg, "load_from": "weights.pth"}) is None
    assert frozen_at_random(model, {**cfg, "pretrained": "nih"}) is None
    from_file = {"backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}}}
    assert frozen_at_random(model, {"model": from_file}) is None


@pytest.mark.parametrize("config", [FRCNN, RETINA, YOLO, STUDY])
def test_what_learns_needs_no_file(build, config):
    assert frozen_at_random(build(config), {"model": {}}) is None
