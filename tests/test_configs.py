"""Every config in configs/ loads without an unknown key and builds."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.engine.hooks import pretrained_checkpoint
from covidmm.engine.preflight import check_classes
from covidmm.errors import ConfigError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.layouts.nih import FINDINGS

# an ensemble is no experiment of the runner; tests/ensembles/test_ensemble_config.py loads those
CONFIGS = sorted(
    p for p in Path("configs").rglob("*.py") if "_base_" not in p.parts and not p.name.startswith("ensemble_")
)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])


def test_there_are_configs():
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_a_config_loads_and_builds_its_model(path, monkeypatch):
    for name in ("SIIM_ROOT", "RSNA_ROOT", "NIH_ROOT"):
        monkeypatch.setenv(name, "somewhere/else")
    cfg = load_config(path)
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes alone: 90 million random weights are no part of the question
        model = MODELS.build(ConfigDict(cfg.model))
    check_classes(model, tuple(cfg.test_evaluator.get("classes", ("opacity",))))
    dataset = cfg.train_dataloader.dataset
    assert dataset.get("dataset", dataset).data_root == "somewhere/else"
    assert cfg.test_dataloader.dataset.data_root == "somewhere/else"
    assert cfg.test_evaluator.get("ann_file", "somewhere/else/annotations/test.json").startswith("somewhere/else")


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_what_is_loaded_is_what_plain_mmengine_reads(path):
    assert load_config(path).to_dict() == Config.fromfile(path).to_dict()


def test_the_report_recipe_is_in_the_config():
    """Report, section 4."""
    cfg = load_config("configs/frcnn_x101_siim.py")
    assert (cfg.model.backbone.depth, cfg.model.backbone.groups, cfg.model.backbone.base_width) == (101, 32, 8)
    assert pretrained_checkpoint(cfg) == "covidmm://x101_nih"
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.nesterov, optimizer.weight_decay) == ("SGD", 1e-3, True, 0)
    assert cfg.train_cfg.max_epochs == 50
    assert (cfg.train_dataloader.batch_size, cfg.val_dataloader.batch_size) == (10, 6)
    schedule = cfg.param_scheduler[0]
    assert (schedule.T_max * schedule.step_every, schedule.eta_min_ratio) == (50, 0.05)
    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert pipeline["Resize"].scale == (512, 512)
    assert pipeline["RandomFlip"].prob == 0.3
    assert pipeline["RandomChoice"].prob == [0.5, 0.25, 0.25]
    applied = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == "RandomApply"]
    assert [step.prob for step in applied] == [0.3, 0.3, 0.3]
    assert cfg.test_dataloader.dataset.pipeline[2].scale == (1024, 1024)
    sampler = cfg.model.train_cfg.rcnn.sampler
    assert (sampler.num, sampler.pos_fraction) == (512, 0.25)


@pytest.mark.parametrize("loss", ["ciou", "giou", "diou"])
def test_a_box_loss_variant_differs_in_the_box_loss_alone(loss):
    plain = load_config("configs/frcnn_x101_siim.py").to_dict()
    variant = load_config(f"configs/frcnn_x101_siim_{loss}.py").to_dict()
    head = variant["model"]["roi_head"]["bbox_head"]
    assert head.pop("reg_decoded_bbox") is True
    assert head["loss_bbox"]["type"].lower() == f"{loss}loss"
    head["loss_bbox"] = plain["model"]["roi_head"]["bbox_head"]["loss_bbox"]
    assert variant == plain


def test_the_report_yolo_is_in_the_config():
    """Report, section 5 and equation (2)."""
    cfg = load_config("configs/yolov5l_siim.py")
    head = cfg.model.bbox_head
    assert (cfg.model.backbone.deepen_factor, cfg.model.backbone.widen_factor) == (1.0, 1.0)
    assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ("GIoULoss", 0.075)
    assert (head.loss_cls.loss_weight, head.loss_obj.loss_weight) == (0.05, 0.75)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.nesterov) == ("SGD", 0.01, 0.937, True)
    assert (optimizer.weight_decay, cfg.optim_wrapper.constructor) == (0.0005, "NamedGroupsConstructor")
    assert cfg.train_dataloader.batch_size * cfg.optim_wrapper.accumulative_counts == 63
    cosine, warmup, momentum = cfg.param_scheduler
    assert (cosine.T_max, cosine.eta_min_ratio) == (30, 0.05)
    assert (warmup.end, momentum.end, warmup.group_start_factors.bias) == (1000, 1000, 10.0)
    assert momentum.start_factor * optimizer.momentum == pytest.approx(0.8)
    pipeline = {(step.type, step.get("direction")): step for step in cfg.train_dataloader.dataset.pipeline}
    assert pipeline["RandomFlip", "horizontal"].prob == 0.5
    assert pipeline["RandomFlip", "vertical"].prob == 0.1
    assert (pipeline["Mosaic", None].prob, pipeline["RandomMixUp", None].prob) == (1.0, 0.5)
    assert cfg.model.data_preprocessor.batch_augments[0].random_size_range == (256, 768)
    assert cfg.test_dataloader.dataset.pipeline[2].scale == (512, 512)
    assert cfg.model.test_cfg.nms.iou_threshold == 0.5


def test_the_five_lines_of_the_docs_are_a_config(tmp_path):
    page = Path("docs/detectors.md").read_text()
    text = page.split("```python\n")[1].split("```")[0]
    assert len(text.splitlines()) == 5
    (tmp_path / "new.py").write_text(
        text.replace('"yolov5l_siim.py"', f'"{Path("configs/yolov5l_siim.py").resolve()}"')
    )
    cfg = load_config(tmp_path / "new.py")
    init_default_scope("mmdet")
    with torch.device("meta"):
        model = MODELS.build(ConfigDict(cfg.model))
    assert type(model.bbox_head.loss_bbox).__name__ == "CIoULoss"
    assert sum(parameter.numel() for parameter in model.parameters()) < 7_235_389


def test_the_rsna_stage_differs_in_data_epochs_and_start_alone():
    siim, rsna = (load_config(f"configs/yolov5l_{name}.py").to_dict() for name in ("siim", "rsna"))
    assert (siim["train_cfg"]["max_epochs"], rsna["train_cfg"]["max_epochs"]) == (30, 40)
    assert siim["model"].pop("init_cfg") == {"type": "Pretrained", "checkpoint": "covidmm://yolov5l_rsna"}
    assert rsna["model"].pop("init_cfg") == {"type": "Pretrained", "checkpoint": "covidmm://yolov5l_coco"}
    for key in ("model", "optim_wrapper", "custom_hooks", "train_pipeline", "test_pipeline"):
        assert siim[key] == rsna[key]
    assert rsna["train_dataloader"]["dataset"]["dataset"]["type"] == "RSNADataset"


@pytest.mark.parametrize("path", ["configs/frcnn_x101_siim.py", "configs/study_x101_siim.py", "configs/x101_nih.py"])
def test_one_line_chooses_what_a_backbone_starts_from(path):
    chosen = {
        name: pretrained_checkpoint(load_config(path, [f"pretrained={name}"])) for name in ("imagenet", "nih", "none")
    }
    assert chosen == {"imagenet": "torchvision://resnext101_32x8d", "nih": "covidmm://x101_nih", "none": None}
    own = ["model.backbone.init_cfg.type=Pretrained", "model.backbone.init_cfg.checkpoint=mine.pth"]
    assert pretrained_checkpoint(load_config(path, own)) is None
    with pytest.raises(ConfigError, match="pretrained is 'nhi', it can be imagenet, nih, none: did you mean 'nih'"):
        load_config(path, ["pretrained=nhi"])


def test_the_findings_of_the_config_are_the_frozen_list():
    assert tuple(load_config("configs/x101_nih.py").test_evaluator.classes) == FINDINGS
    assert tuple(load_config("configs/study_x101_siim.py").test_evaluator.classes) == STUDY_CLASSES


def test_the_report_classifiers_are_in_the_configs():
    """Report, sections 3 and 7."""
    nih, study = load_config("configs/x101_nih.py"), load_config("configs/study_x101_siim.py")
    assert pretrained_checkpoint(nih) == "torchvision://resnext101_32x8d"
    assert pretrained_checkpoint(study) == "covidmm://x101_nih"
    assert (nih.train_cfg.max_epochs, study.train_cfg.max_epochs) == (35, 58)
    assert (nih.train_dataloader.batch_size, study.train_dataloader.batch_size) == (32, 15)
    assert (nih.optim_wrapper.optimizer.lr, study.optim_wrapper.optimizer.lr) == (1e-3, 5e-4)
    for cfg in (nih, study):
        assert (cfg.model.in_channels, cfg.model.hidden_channels, cfg.model.dropout) == (2048, 1024, 0.5)
        steps = list(cfg.train_dataloader.dataset.pipeline)
        assert (steps[1].scale, steps[2].crop_size) == ((100000, 256), 224)
        assert [step.prob for step in steps if "prob" in step] == [0.3, 0.5, 1.0, 0.3]
    assert (study.model.backbone.frozen_stages, study.model.backbone.norm_eval) == (4, True)
