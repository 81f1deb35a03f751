"""Faster forms of detectors of several families, with random weights: the boxes stay."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import nn

import covidmm.registration  # noqa: F401
from covidmm.inference import fast_forms
from covidmm.inference.fast_forms import private_pairs, take_fast_forms
from covidmm.models.pretrained import without_pretraining

NO_THRESHOLDS = {"score_thr": 0.0, "max_per_img": 50}


def built(config, **changes):
    """A model of MMDetection with random weights, in which every norm has statistics of its own."""
    cfg = get_config(config)
    cfg.merge_from_dict(changes)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(without_pretraining(cfg.model.to_dict())))
    nn.Module.train(model, False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return model


def rtmdet():
    return built(
        "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        **{"model.backbone.widen_factor": 0.125, "model.neck.in_channels": [32, 64, 128]},
        **{"model.neck.out_channels": 16, "model.bbox_head.in_channels": 16, "model.bbox_head.feat_channels": 16},
        **{"model.bbox_head.num_classes": 1, "model.backbone.norm_cfg.type": "BN", "model.neck.norm_cfg.type": "BN"},
        **{"model.bbox_head.norm_cfg.type": "BN", "model.test_cfg.score_thr": 0.0},
    )


def weight_standardised():
    changes = {
        "model.backbone.depth": 18,
        "model.backbone.norm_cfg": {"type": "BN"},
        "model.backbone.conv_cfg": {"type": "ConvWS"},
        "model.backbone.frozen_stages": -1,
        "model.neck.in_channels": [64, 128, 256, 512],
        "model.bbox_head.num_classes": 1,
        "model.test_cfg.score_thr": 0.0,
    }
    return built("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", **changes)


def grid_rcnn():
    return built(
        "mmdet::grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco.py",
        **{"model.backbone.depth": 18, "model.neck.in_channels": [64, 128, 256, 512]},
        **{
            "model.roi_head.bbox_head.num_classes": 1,
            "model.test_cfg.rcnn": NO_THRESHOLDS,
            "model.test_cfg.rpn.max_per_img": 20,
        },
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("family", [rtmdet, weight_standardised, grid_rcnn])
def test_the_boxes_are_those_of_the_model_as_it_was_built(family):
    model = family()
    plain = copy.deepcopy(model)
    take_fast_forms(model, "mine", {"of": family.__name__})
    before, after = (fast_forms._answers(one, torch.float32, 128, False) for one in (plain, model))
    assert sum(len(one) for one in before) >= 10
    assert fast_forms._difference(before, after) is None


def test_a_convolution_that_levels_share_is_not_folded():
    model = rtmdet()
    shared = {
        f"bbox_head.{branch}.{level}.{n}.conv"
        for branch in ("cls_convs", "reg_convs")
        for level in range(3)
        for n in range(2)
    }
    pairs = private_pairs(model)
    assert not shared & {conv for conv, _ in pairs}
    backbone = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len([conv for conv, _ in pairs if conv.startswith("backbone.")]) == len(backbone)


def test_a_standardised_weight_is_not_folded():
    assert not [conv for conv, _ in private_pairs(weight_standardised()) if conv.startswith("backbone.layer")]


def test_a_norm_that_something_else_feeds_is_not_folded():
    class Skipping(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x) + x)

    model = Skipping(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    assert private_pairs(model) == [("0", "1")]
    with fast_forms._pairs_in_use(model) as pairs:
        model(torch.rand(1, 3, 4, 4))
    assert pairs == []


def test_folding_that_would_move_boxes_is_left_and_said(monkeypatch):
    said = []
    monkeypatch.setattr(fast_forms, "print_log", lambda line, logger: said.append(line))
    monkeypatch.setattr(fast_forms, "private_pairs", lambda model: [("backbone.conv1", "backbone.bn1")])
    real = fast_forms.fold_batch_norms

    def wrong(model, pairs):
        real(model, pairs)
        for conv, _ in pairs:
            model.get_submodule(conv).weight.data *= 1.01

    monkeypatch.setattr(fast_forms, "fold_batch_norms", wrong)
    model = weight_standardised()
    take_fast_forms(model, "mine", {"of": "wrong"})
    assert isinstance(model.backbone.bn1, nn.BatchNorm2d)
    assert said[0].startswith("member 'mine' keeps its batch norms: folded into convolutions, ")


def test_a_model_seen_before_is_not_compared_again(monkeypatch, tmp_path):
    take_fast_forms(rtmdet(), "mine", {"of": 1})
    monkeypatch.setattr(fast_forms, "compared_forms", lambda model: pytest.fail("compared again"))
    model = rtmdet()
    take_fast_forms(model, "mine", {"of": 1})
    assert not [one for one in model.backbone.modules() if isinstance(one, nn.BatchNorm2d)]
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")  # a damaged file is no answer
    monkeypatch.undo()
    monkeypatch.setenv("COVIDMM_CACHE", "/proc/none")
    take_fast_forms(rtmdet(), "mine", {"of": 1})
