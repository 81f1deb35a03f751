from pathlib import Path

import pytest

from covidmm.engine.config import load_config
from covidmm.engine.hooks import pretrained_checkpoint
from covidmm.errors import ConfigError

CONFIG = "configs/frcnn_x101_siim.py"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("trian_cfg.max_epochs=1", "unknown key 'trian_cfg' in the config: did you mean 'train_cfg'?"),
        (
            "train_cfg.max_epoch=3",
            "unknown key 'train_cfg.max_epoch' of EpochBasedTrainLoop: did you mean 'max_epochs'?",
        ),
        ("model.roi_head.bbox_head.num_clases=2", "did you mean 'num_classes'?"),
        (
            "model.test_cfg.rcnn.score_thrr=.1",
            "unknown key 'model.test_cfg.rcnn.score_thrr': did you mean 'score_thr'?",
        ),
        ("model.test_cfg.rcnn.nms.iou_treshold=.1", "of nms: did you mean 'iou_threshold'?"),
        ("model.train_cfg.rpn.assigner.pos_iou=.1", "of MaxIoUAssigner: did you mean 'pos_iou_thr'?"),
        ("optim_wrapper.optimizer.momentun=1", "of SGD: did you mean 'momentum'?"),
        ("optim_wrapper.clip_gradd.max_norm=1", "did you mean 'clip_grad'?"),
        ("train_dataloader.batch_sise=3", "unknown key 'train_dataloader.batch_sise': did you mean 'batch_size'?"),
        ("train_dataloader.dataset.pipeline.3.scal=3", "of Resize: did you mean 'scale'?"),
        ("train_dataloader.dataset.ann_files=x", "of SIIMDataset: did you mean 'ann_file'?"),
        ("default_hooks.checkpoint.intervall=2", "of ResumableCheckpointHook: did you mean 'interval'?"),
        ("default_hooks.logger.intervall=2", "of LoggerHook: did you mean 'interval'?"),
        ("param_scheduler.0.T_maks=2", "of SteppedCosineLR: did you mean 'T_max'?"),
        ("randomness.sed=1", "did you mean 'seed'?"),
        ("env_cfg.cudnn_bench=1", "did you mean 'cudnn_benchmark'?"),
        ("model.backbone.type=ResNext", "unknown type 'ResNext' at model.backbone: did you mean 'ResNet'?"),
        ("val_evaluator.type=DetectionMetrics", "did you mean 'DetectionMetric'?"),
        ("train_cfg.max_epochs=abc", "train_cfg.max_epochs is 50, expected a number, got 'abc'"),
        ("train_cfg.max_epochs=1.5", "train_cfg.max_epochs is 50, expected an integer, got 1.5"),
        ("train_cfg.max_epochs=-1", "train_cfg.max_epochs must be a positive integer, not -1"),
        ("train_cfg.max_epochs=0", "train_cfg.max_epochs must be a positive integer, not 0"),
        ("train_cfg.max_epochs=None", "train_cfg.max_epochs must be a positive integer, not None"),
        ("train_dataloader.batch_size=0", "train_dataloader.batch_size must be a positive integer, not 0"),
        ("train_dataloader.batch_size=-1", "train_dataloader.batch_size must be a positive integer, not -1"),
        ("train_dataloader.num_workers=-1", "train_dataloader.num_workers must be an integer of 0 or more, not -1"),
        ("train_dataloader.dataset=None", "train_dataloader.dataset must be a dict with a type, not None"),
        ("train_dataloader.sampler.shuffle=1", "shuffle is True, expected True or False, got 1"),
        ("optim_wrapper.optimizer.lr=-1", "optim_wrapper.optimizer.lr must be a positive number, not -1"),
        ("model=3", "expected a dict or keys below it, as model.KEY=VALUE, got 3"),
        ("model=None", "model must be a dict, not None"),
        ("model.backbone=ResNet", "expected a dict or keys below it, as model.backbone.KEY=VALUE, got 'ResNet'"),
        (
            "model.neck.in_channels=64",
            "expected a list of numbers, as model.neck.in_channels=256,512,1024,2048, got 64",
        ),
        ("model.test_cfg.rcnn.max_per_img=1.5", "max_per_img must be a positive integer, or -1 for all, not 1.5"),
        ("train_dataloader.dataset.pipeline.3.scale=abc", "is (512, 512), expected a tuple of numbers, as train_"),
        ("train_dataloader.dataset.pipeline.3.scale=9,9,9", "is (512, 512), expected a tuple of numbers, as train_"),
        ("train_dataloader.dataset.pipeline.4.prob=1.5", "prob must be a number between 0 and 1, not 1.5"),
        ("val_evaluator=[1]", "val_evaluator.0 must be a dict with a type"),
        ("default_hooks.checkpoint.interval=0", "default_hooks.checkpoint.interval must be a positive integer, not 0"),
        ("test_time_augmentation=3", "test_time_augmentation must be True or False, not 3"),
        ("train_pipeline.0.type=x", "'train_pipeline' is a variable of the config file"),
        ("train_pipeline.0.type=x", "override the place where it is used: train_dataloader.dataset.pipeline"),
        ("max_epochs", "is not KEY=VALUE"),
        ("model.roi_head=dict(type=x,num=(1,2))", "a dict is set key by key, as model.roi_head.KEY=VALUE"),
        ("log_level=LOUD", "log_level must be one of CRITICAL, FATAL, ERROR"),
        ("env_cfg.mp_cfg.mp_start_method=foo", "mp_start_method must be one of fork"),
        ("default_scope=nonsense", "default_scope is 'nonsense', expected an installed package with registries"),
        ("train_dataloader.dataset.pipeline.0=None", "only keys below it can be set, as train_dataloader.dataset."),
        ("model.rpn_head.anchor_generator.strides.0=2", "give the whole list, as model.rpn_head.anchor_generator.stri"),
        ("model.rpn_head.anchor_generator.scales=8", "as model.rpn_head.anchor_generator.scales=[8], got 8"),
        ("optim_wrapper.optimizer.momentum=9", "momentum must be a number of 0 to below 1, not 9"),
        ("model.test_cfg.rcnn.score_thr=50", "model.test_cfg.rcnn.score_thr must be a number of -1 to 1, not 50"),
        ("model.test_cfg.rcnn.nms.iou_threshold=-1", "iou_threshold must be a number between 0 and 1, not -1"),
        ("custom_hooks.9.type=x", "custom_hooks.9.type=x: Index 9 exceeds the length of list"),
        ("train_dataloader.dataset.pipeline.99.scale=3", "--cfg-options train_dataloader.dataset.pipeline.99.scale=3"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(option, message):
    with pytest.raises(ConfigError) as raised:
        load_config(CONFIG, [option])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "path", "value"),
    [
        ("train_cfg.max_epochs=1", "train_cfg.max_epochs", 1),
        ("model.backbone.init_cfg=None", "model.backbone.init_cfg", None),
        ("train_dataloader.dataset.indices=4", "train_dataloader.dataset.indices", 4),
        ("model.test_cfg.rcnn.score_thr=0.3", "model.test_cfg.rcnn.score_thr", 0.3),
        ("load_from=x.pth", "load_from", "x.pth"),
        ("optim_wrapper.accumulative_counts=4", "optim_wrapper.accumulative_counts", 4),
        ("optim_wrapper.clip_grad.max_norm=10", "optim_wrapper.clip_grad.max_norm", 10),
        ("train_dataloader.dataset.pipeline.3.scale=224,224", "train_dataloader.dataset.pipeline.3.scale", (224, 224)),
        ("train_dataloader.dataset.pipeline.3.scale=224", "train_dataloader.dataset.pipeline.3.scale", 224),
        ("model.backbone.out_indices=1,2", "model.backbone.out_indices", (1, 2)),
        ("model.neck.in_channels=(8,8,8,8)", "model.neck.in_channels", [8, 8, 8, 8]),
        ("model.rpn_head.loss_bbox.loss_weight=2", "model.rpn_head.loss_bbox.loss_weight", 2),
        ("experiment_name=3", "experiment_name", "3"),
        ("custom_hooks=None", "custom_hooks", None),
        ("default_hooks.checkpoint.priority=LOW", "default_hooks.checkpoint.priority", "LOW"),
    ],
)
def test_an_option_that_something_reads_is_applied(option, path, value):
    found = load_config(CONFIG, [option])
    for part in path.split("."):
        found = found[int(part) if part.isdigit() else part]
    assert found == value
    assert type(found) is type(value)


def test_a_size_may_be_a_tuple_where_the_config_has_a_number():
    cfg = load_config("configs/small/r18_nih.py", ["train_dataloader.dataset.pipeline.2.crop_size=96,96"])
    assert cfg.train_dataloader.dataset.pipeline[2].crop_size == (96, 96)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_cfg = dict(max_epochs=2.0)", "train_cfg.max_epochs must be a positive integer, not 2.0"),
        ("val_dataloader = dict(batch_size=True)", "val_dataloader.batch_size must be a positive integer, not True"),
        ("optim_wrapper = dict(accumulative_counts=0)", "accumulative_counts must be a positive integer, not 0"),
    ],
)
def test_a_value_in_a_file_is_checked_too(tmp_path, text, message):
    base = Path(CONFIG).resolve()
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, f"_base_ = {str(base)!r}\n{text}"))


def test_a_size_that_a_file_gives_as_a_list_is_the_tuple_that_mmcv_needs(tmp_path):
    base = Path("configs/small/frcnn_r18_siim.py").resolve()
    steps = "test_pipeline = [*_base_.load_with_boxes, dict(type='Resize', scale=[64, 64]), _base_.pack]"
    text = f"_base_ = {str(base)!r}\n{steps}\nval_dataloader = dict(dataset=dict(pipeline=test_pipeline))"
    assert load_config(write(tmp_path, text)).val_dataloader.dataset.pipeline[2].scale == (64, 64)


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_cfg = dict(", "mine.py: line 1"),
        ("_base_ = './none.py'", "none.py"),
        ("trian_cfg = dict(max_epochs=3)", "unknown key 'trian_cfg' in the config: did you mean 'train_cfg'?"),
        ("custom_imports = dict(imports=['no_such_module_at_all'])", "custom_imports"),
        ("x = 1 / 0", "mine.py: ZeroDivisionError"),
    ],
)
def test_a_broken_file_is_named_with_its_cause(tmp_path, text, message):
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pretrained_weights_that_no_hook_would_load_are_refused():
    with pytest.raises(ConfigError, match="pretrained: nothing reads it; default_hooks lacks pretrained="):
        load_config(CONFIG, ["default_hooks.pretrained=None"])


def test_the_config_of_an_ensemble_is_called_one():
    with pytest.raises(ConfigError, match=r"is the config of an ensemble, which tools/ensemble\.py"):
        load_config("configs/ensemble_wbf_siim.py")


@pytest.mark.parametrize(
    ("config", "options", "chosen"),
    [
        ("small/frcnn_r18_siim.py", [], "resnet18"),
        ("small/frcnn_r18_siim.py", ["model.backbone.depth=50"], "resnet50"),
        ("frcnn_x101_siim.py", ["model.backbone.depth=50", "model.backbone.base_width=4"], "resnext50_32x4d"),
    ],
)
def test_the_weights_of_imagenet_are_those_of_the_depth(config, options, chosen):
    cfg = load_config(f"configs/{config}", ["pretrained=imagenet", *options])
    assert pretrained_checkpoint(cfg) == f"torchvision://{chosen}"


def test_workers_that_persist_need_workers():
    options = ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=True"]
    with pytest.raises(ConfigError, match=r"num_workers is 0, with which train_dataloader\.persistent_workers must be"):
        load_config(CONFIG, options)


def test_a_depth_without_weights_is_refused():
    with pytest.raises(ConfigError, match=r"model\.backbone is resnext50_32x8d, of which torchvision has no weights"):
        load_config(CONFIG, ["pretrained=imagenet", "model.backbone.depth=50"])


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"configs/none\.py: no such config file"):
        load_config("configs/none.py")


def test_a_variable_that_the_file_uses_itself_is_no_unknown_key(tmp_path):
    path = write(tmp_path, "epochs = 3\ntrain_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)")
    assert load_config(path).train_cfg.max_epochs == 3


def test_an_inherited_file_is_checked_as_one(tmp_path, request):
    base = request.config.rootpath / CONFIG
    path = write(tmp_path, f"_base_ = {str(base)!r}\nmodel = dict(backbone=dict(dept=50))")
    with pytest.raises(ConfigError, match=r"'model\.backbone\.dept' of ResNeXt: did you mean 'depth'\?"):
        load_config(path)


def test_a_config_of_python_imports_is_read_and_checked_like_others(tmp_path):
    load_config(CONFIG).dump(tmp_path / "inherited.py")
    lines = [
        "from mmdet.models import FasterRCNN",
        "from mmengine.config import read_base",
        "with read_base():",
        "    from .inherited import *",
        "train_cfg.update(max_epochs=3)",
        "model.update(type=FasterRCNN)",
    ]
    file = tmp_path / "mine.py"
    file.write_text("\n".join(lines))
    cfg = load_config(file)
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.model.type == "mmdet.models.FasterRCNN"
    file.write_text("\n".join([*lines, "model.neck.update(chanels=3)"]))
    with pytest.raises(ConfigError, match=r"unknown key 'model\.neck\.chanels'"):
        load_config(file)
