"""Every config in configs/ loads without an unknown key and builds."""

import math
from pathlib import Path

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.engine.config_keys import Checker
from covidmm.engine.hooks import pretrained_checkpoint
from covidmm.engine.preflight import check_classes
from covidmm.engine.schedules import schedule_misfits
from covidmm.errors import ConfigError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.layouts.nih import FINDINGS
from tests.helpers.schedules import EPOCH, built_schedules, rates

# an ensemble is no experiment of the runner; tests/ensembles/test_ensemble_config.py loads those
CONFIGS = sorted(
    p for p in Path("configs").rglob("*.py") if "_base_" not in p.parts and not p.name.startswith("ensemble_")
)
# Equation (1) of the report, section 3.1, by the config: start, epochs, epochs of a step, steps to the floor, floor,
# and the iterations of the warm-up. What other configs inherit is not named again.
SCHEDULES = {
    "x101_nih": (1e-3, 35, 2, 18, 0.05, 0),
    "frcnn_x101_siim": (1e-3, 50, 2, 25, 0.05, 0),
    "frcnn_x101_siim_ciou": (1e-3, 50, 2, 25, 0.05, 0),
    "frcnn_x101_siim_ascoded": (1e-3, 50, 2, 50, 0.05, 0),
    "yolov5l_siim": (0.01, 30, 1, 30, 0.05, 1000),
    "yolov5l_rsna": (0.01, 40, 1, 40, 0.05, 1000),
    "yolov5x6_siim_ascoded": (0.01, 35, 1, 35, 0.05, 3 * EPOCH),
    "yolov5x6_rsna_ascoded": (0.01, 35, 1, 35, 0.05, 3 * EPOCH),
    "study_x101_siim": (5e-4, 59, 2, 30, 0.05, 0),
    "study_x101_siim_adam": (1e-3, 35, 2, 18, 0.05, 0),
    "study_x101_siim_lr1e-4": (1e-4, 35, 2, 18, 0.05, 0),
    "study_x101_siim_lr1e-4_ascoded": (1e-4, 35, 2, 35, 0.05, 0),
    "study_x101_siim_lr1e-4_b35_ascoded": (1e-4, 56, 2, 56, 0.05, 0),
    "study_x101_siim_lr1e-4_constant": (1e-4, 35, 1, 35, 1.0, 0),
    "study_x101_siim_lr2e-4_floor25": (2e-4, 35, 2, 18, 0.25, 0),
    "small/frcnn_r18_siim": (0.01, 50, 2, 25, 0.05, 60),
    "small/yolov5n_siim": (0.01, 50, 1, 50, 0.05, 100),
    "small/r18_nih": (0.02, 30, 1, 30, 0.05, 40),
    "small/study_r18_siim": (0.02, 30, 1, 30, 0.05, 40),
    "phantom/frcnn_r18_phantom": (0.02, 12, 2, 6, 0.05, 100),
    "phantom/yolov5n_phantom": (0.01, 16, 1, 16, 0.05, 100),
}
# the code counted T in epochs while it stepped every second one
NEVER_ANNEALED = {"frcnn_x101_siim_ascoded", "study_x101_siim_lr1e-4_ascoded", "study_x101_siim_lr1e-4_b35_ascoded"}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])


def test_there_are_configs():
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_a_config_loads_and_builds_its_model(path, monkeypatch):
    for name in ("SIIM_ROOT", "RSNA_ROOT", "NIH_ROOT", "FINDINGS_ROOT"):
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
def test_a_config_anneals_over_its_run_and_chooses_by_validation(path):
    cfg = Config.fromfile(path)
    assert cfg.default_hooks.checkpoint.get("save_best")
    for epochs in (cfg.train_cfg.max_epochs, 5, 100):
        cfg.train_cfg.max_epochs = epochs
        found = schedule_misfits(built_schedules(cfg)[1], epochs, epochs * EPOCH)
        if path.stem in NEVER_ANNEALED:
            assert epochs == 100 or "SteppedCosineLR reaches its end after" in found[0]
        elif path.stem != "retinanet_r18_siim" or epochs == 12:  # whose milestones are MMDetection's
            assert not found


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_learning_rates_of_a_config_are_those_of_the_report(name):
    start, epochs, every, steps, floor, warmup = SCHEDULES[name]
    cfg = Config.fromfile(f"configs/{name}.py")
    assert cfg.train_cfg.max_epochs == epochs
    found = rates(cfg)
    for epoch in range(-(-warmup // EPOCH), epochs):
        step = min(epoch // every, steps)
        expected = start * (floor + (1 - floor) * (1 + math.cos(math.pi * step / steps)) / 2)
        assert found[epoch] == pytest.approx(expected, rel=1e-9)
    assert not warmup or found[0] < start * 0.02


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_what_is_loaded_is_what_plain_mmengine_reads_without_the_variables_of_the_files(path):
    plain, read = Config.fromfile(path).to_dict(), Checker.top_level_keys()
    assert load_config(path).to_dict() == {key: value for key, value in plain.items() if key in read}


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
    assert (schedule.step_every, schedule.eta_min_ratio) == (2, 0.05)
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
    assert (cosine.get("step_every", 1), cosine.eta_min_ratio) == (1, 0.05)
    assert (warmup.end, momentum.end, warmup.group_start_factors.bias) == (1000, 1000, 10.0)
    assert momentum.start_factor * optimizer.momentum == pytest.approx(0.8)
    pipeline = {(step.type, step.get("direction")): step for step in cfg.train_dataloader.dataset.pipeline}
    assert pipeline["RandomFlip", "horizontal"].prob == 0.5
    assert pipeline["RandomFlip", "vertical"].prob == 0.1
    mosaic, affine, mixup = (pipeline[name, None] for name in ("Mosaic", "CentredAffine", "YOLOv5MixUp"))
    assert (mosaic.prob, mixup.prob, mixup.alpha, mixup.beta) == (1.0, 0.5, 32.0, 32.0)
    assert mixup.pre_transform == [mosaic, affine]
    assert (affine.min_bbox_size, affine.min_area_ratio, affine.max_aspect_ratio) == (2, 0.1, 100)
    assert cfg.model.data_preprocessor.batch_augments[0].random_size_range == (256, 768)
    assert cfg.test_dataloader.dataset.pipeline[2].scale == (512, 512)
    assert cfg.model.test_cfg.nms.iou_threshold == 0.5


@pytest.mark.parametrize("name", ["yolov5l_siim", "yolov5l_rsna", "yolov5x6_siim_ascoded"])
def test_yolov5_averages_its_weights_as_published_at_each_step_of_the_optimizer(name):
    """A decay of 0.9999 (1 - exp(-updates / 2000)) after every step, which is every 21st batch."""
    cfg = load_config(f"configs/{name}.py")
    (hook,) = [hook for hook in cfg.custom_hooks if hook.type == "EMAHook"]
    batches = cfg.optim_wrapper.accumulative_counts
    parameter = torch.nn.Linear(1, 1, bias=False)
    settings = {key: value for key, value in hook.items() if key not in ("type", "ema_type")}
    averaged = ExpMomentumEMA(parameter, **settings)
    published = parameter.weight.item()
    for batch in range(40 * batches + 1):
        averaged.update_parameters(parameter)
        if batch and batch % batches == 0:
            decay = 0.9999 * (1 - math.exp(-(batch // batches) / 2000))
            published = decay * published + (1 - decay) * parameter.weight.item()
            assert averaged.module.weight.item() == pytest.approx(published, rel=2e-3)
            parameter.weight.data += 1


def test_the_small_yolov5_averages_once():
    hooks = [hook.type for hook in load_config("configs/small/yolov5n_siim.py").custom_hooks]
    assert hooks.count("EMAHook") == 1


def test_the_five_lines_of_the_docs_are_a_config(tmp_path):
    page = Path("docs/detectors.md").read_text()
    text = page.split("```python\n")[1].split("```")[0]
    assert len(text.splitlines()) == 5
    (tmp_path / "new.py").write_text(
        text.replace('"yolov5l_siim.py"', f'"{Path("configs/yolov5l_siim.py").resolve()}"')
    )
    cfg = load_config(tmp_path / "new.py")
    assert rates(cfg)[59] == pytest.approx(0.01 * 0.05, rel=0.02)
    init_default_scope("mmdet")
    with torch.device("meta"):
        model = MODELS.build(ConfigDict(cfg.model))
    assert type(model.bbox_head.loss_bbox).__name__ == "CIoULoss"
    assert sum(parameter.numel() for parameter in model.parameters()) < 7_235_389


def test_what_the_code_did_with_yolo_is_in_the_ascoded_configs():
    """The report's code: CIoU, no class loss with one class, a warm-up of three epochs, and both of its stages."""
    siim, rsna = (load_config(f"configs/yolov5x6_{name}_ascoded.py") for name in ("siim", "rsna"))
    for cfg in (siim, rsna):
        head = cfg.model.bbox_head
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ("CIoULoss", 0.075)
        assert (head.loss_cls.loss_weight, head.loss_obj.loss_weight) == (0.0, 0.75)
        assert cfg.train_cfg.max_epochs == 35
        _, schedulers = built_schedules(cfg)
        assert [(one.by_epoch, one.end) for one in schedulers[1:]] == [(False, 3 * EPOCH)] * 2
    assert siim.model.init_cfg.checkpoint == "covidmm://yolov5x6_rsna_ascoded"
    assert rsna.model.init_cfg.checkpoint == "covidmm://yolov5x6_coco"
    assert rsna.train_dataloader.dataset.dataset.type == "RSNADataset"


def test_the_rsna_stage_differs_in_data_epochs_and_start_alone():
    siim, rsna = (load_config(f"configs/yolov5l_{name}.py").to_dict() for name in ("siim", "rsna"))
    assert (siim["train_cfg"]["max_epochs"], rsna["train_cfg"]["max_epochs"]) == (30, 40)
    assert siim["model"].pop("init_cfg") == {"type": "Pretrained", "checkpoint": "covidmm://yolov5l_rsna"}
    assert rsna["model"].pop("init_cfg") == {"type": "Pretrained", "checkpoint": "covidmm://yolov5l_coco"}
    for key in ("model", "optim_wrapper", "custom_hooks"):
        assert siim[key] == rsna[key]
    for data in (siim, rsna):
        data["train"], data["test"] = (data[f"{part}_dataloader"]["dataset"]["pipeline"] for part in ("train", "test"))
    assert (siim["train"], siim["test"]) == (rsna["train"], rsna["test"])
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
    assert (nih.train_cfg.max_epochs, study.train_cfg.max_epochs) == (35, 59)
    assert (nih.train_dataloader.batch_size, study.train_dataloader.batch_size) == (32, 15)
    assert (nih.optim_wrapper.optimizer.lr, study.optim_wrapper.optimizer.lr) == (1e-3, 5e-4)
    for cfg in (nih, study):
        assert (cfg.model.in_channels, cfg.model.hidden_channels, cfg.model.dropout) == (2048, 1024, 0.5)
        steps = list(cfg.train_dataloader.dataset.pipeline)
        assert (steps[1].scale, steps[2].crop_size) == ((100000, 256), 224)
        assert [step.prob for step in steps if "prob" in step] == [0.3, 0.5, 1.0, 0.3]
    assert (study.model.backbone.frozen_stages, study.model.backbone.norm_eval) == (4, True)
