"""Faster R-CNN beside torchvision's, with a network that takes seconds."""

import json

import pytest
import torch
from benchmarks import frcnn
from benchmarks.frcnn import EXPERIMENTS, benchmark, format_report
from benchmarks.networks import build_model

from covidmm.engine.config import load_config
from covidmm.errors import DataError


def test_both_precisions_are_timed_for_both():
    report = benchmark("resnet18", pixels=96, batch=1, repeats=1)
    first, second = report["timings"]
    mixed = "float16" if torch.cuda.is_available() else "bfloat16"
    assert (first["precision"], second["precision"]) == ("float32", mixed)
    for one in report["timings"]:
        assert one["ratio"] == pytest.approx(one["seconds"] / one["reference_seconds"])
    assert report["speedup"] == pytest.approx(first["seconds"] / second["seconds"])
    assert format_report(report).splitlines()[0].split()[0] == "ratio"


def test_the_same_layers_are_trained():
    ours = build_model(frcnn.EXPERIMENTS["resnet18"])
    ours.backbone.conv1.weight.requires_grad_(False)
    reference = frcnn.reference_model("resnet18", ours, 96)
    trained = {name: value.requires_grad for name, value in reference.backbone.body.named_parameters()}
    assert trained == {name: value.requires_grad for name, value in ours.backbone.named_parameters()}
    assert set(trained.values()) == {True, False}


def test_a_step_moves_the_weights_of_both():
    ours = build_model(frcnn.EXPERIMENTS["resnet18"])
    reference = frcnn.reference_model("resnet18", ours, 96)
    images = torch.randint(256, (1, 3, 96, 96), dtype=torch.uint8)
    before = {name: value.clone() for name, value in ours.backbone.named_parameters()}
    for model, make in ((ours, frcnn.our_step), (reference, frcnn.reference_step)):
        make(model, images, torch.float32)()
    for backbone in (ours.backbone, reference.backbone.body):
        moved = [not torch.equal(value, before[name]) for name, value in backbone.named_parameters()]
        assert sum(moved) > 0.9 * len(moved)


def test_pyramids_that_differ_are_not_compared():
    ours = build_model(frcnn.EXPERIMENTS["resnet18"])
    reference = frcnn.reference_model("resnet18", ours, 96)
    torch.nn.init.ones_(reference.backbone.fpn.layer_blocks[0][0].bias)
    with pytest.raises(DataError, match="differ on the same weights"):
        frcnn.require_same_pyramids(ours, reference, torch.randint(256, (1, 3, 96, 96), dtype=torch.uint8))


def test_the_config_has_the_numbers_of_torchvision():
    from torchvision.models.detection import FasterRCNN

    model = load_config(EXPERIMENTS["resnext101_32x8d"]).model
    defaults = FasterRCNN.__init__.__defaults__
    rpn, rcnn = model.train_cfg.rpn, model.train_cfg.rcnn
    for value in (
        rpn.sampler.num,
        rcnn.sampler.num,
        rpn.assigner.pos_iou_thr,
        rpn.assigner.neg_iou_thr,
        model.train_cfg.rpn_proposal.max_per_img,
        model.train_cfg.rpn_proposal.nms.iou_threshold,
    ):
        assert value in defaults


def test_the_tool_prints_and_writes_it(run_benchmark, tmp_path):
    command = ["frcnn", "--backbone", "resnet18", "--pixels", "64"]
    command += ["--batch", "1", "--repeats", "1", "--precisions", "float32", "--json", tmp_path / "a.json"]
    result = run_benchmark(*command)
    assert result.returncode == 0, result.stderr
    assert "torchvision s" in result.stdout
    assert json.loads((tmp_path / "a.json").read_text())["speedup"] is None
