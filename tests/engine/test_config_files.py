"""Names of a file's own, and keys of a replaced type."""

from contextlib import nullcontext
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError

YOLO = Path("configs/small/yolov5n_siim.py").resolve()
FRCNN = Path("configs/small/frcnn_r18_siim.py").resolve()
RETINA = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
INSERTED = "train_pipeline = [*_base_.train_pipeline]\ntrain_pipeline.insert(1, dict(type='RandomFlip', prob=0.5))"


def load(folder, base, text, loader=load_config):
    (folder / "mine.py").write_text(f"_base_ = '{base}'\n{text}")
    return loader(folder / "mine.py")


@pytest.mark.parametrize(
    ("base", "text", "message"),
    [
        (
            YOLO,
            "warmup_iterations = 7",
            "variable of yolov5n_siim.py, already used there: set param_scheduler",
        ),
        (YOLO, "train_pipeline = _base_.train_pipeline[:2]", "set train_dataloader.dataset.pipeline$"),
        (YOLO, INSERTED, "set train_dataloader.dataset.pipeline$"),
        (YOLO, "size = 128\nscales = [size]", "'scales' is a variable"),
        (FRCNN, "resize = dict(type='Resize', scale=(8, 8))", "set train_dataloader.dataset.pipeline, val_dataloader"),
        (FRCNN, "augment = [*_base_.augment]\naugment += [1]", "'augment' is a variable of siim_detection.py"),
        (FRCNN, "siim = dict(data_root='x')", "'siim' is a variable of siim_detection.py"),
        (
            RETINA,
            "vis_backends = []",
            "variable of default_runtime.py, .*: set visualizer.vis_backends",
        ),
        (RETINA, "data_root = 'x/'", "set train_dataloader.dataset.data_root, val_dataloader.dataset.data_root"),
    ],
)
def test_a_variable_of_a_base_that_is_set_again_changes_nothing_and_is_refused(tmp_path, base, text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load(tmp_path, base, text)
    assert str(raised.value).startswith(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    "text",
    [
        "warmup_iterations = 100",  # as it is
        f"{INSERTED}\ntrain_dataloader = dict(dataset=dict(pipeline=train_pipeline))",
        "max_epochs = 7\nif True:\n    train_cfg = dict(max_epochs=max_epochs)",
        "max_epochs = 7\nepochs = max_epochs + 1\ntrain_cfg = dict(max_epochs=epochs)",
    ],
)
def test_what_the_file_reads_itself_is_its_own(tmp_path, text):
    load(tmp_path, YOLO, text)


def test_a_name_that_only_stands_deeper_is_shown_there(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'max_epochs' in the config: set train_cfg.max_epochs$"):
        load(tmp_path, YOLO, "max_epochs = 1")


def test_what_a_file_further_up_reads_is_used(tmp_path):
    (tmp_path / "middle.py").write_text(f"_base_ = '{YOLO}'\nmax_epochs = 7")
    assert load(tmp_path, "middle.py", "train_cfg = dict(max_epochs=_base_.max_epochs)").train_cfg.max_epochs == 7


def test_a_variable_of_an_ensemble_is_no_other(tmp_path):
    (tmp_path / "base.py").write_text(
        f"_base_ = '{YOLO.parent / 'ensemble_wbf_siim.py'}'\nthr = 0.5\nnone = dict(weight=thr)"
    )
    with pytest.raises(ConfigError, match=r"'thr' is a variable of base.py, already used there: set none.weight"):
        load(tmp_path, "base.py", "thr = 0.7", load_ensemble)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "backbone=dict(type='SwinTransformer')",
            "depth' of SwinTransformer, inherited from the base's 'ResNet'",
        ),
        (
            "roi_head=dict(bbox_head=dict(loss_bbox=dict(type='GIoULoss')))",
            "beta' of GIoULoss, inherited from",
        ),
    ],
)
def test_a_key_of_the_replaced_type_says_delete(tmp_path, text, message):
    with pytest.raises(ConfigError, match=rf"{message}.*did you mean `_delete_=True`"):
        load(tmp_path, FRCNN, f"model = dict({text})")


def test_a_type_that_an_option_replaces_says_so_too():
    with pytest.raises(ConfigError, match="inherited from the base's 'ResNet': did you mean `_delete_=True`"):
        load_config(FRCNN, ["model.backbone.type=SwinTransformer"])


SHIPPED = Path(mmdet.__file__).parent / ".mim/configs"


@pytest.mark.parametrize("config", [YOLO, FRCNN, FRCNN.parent / "study_r18_siim.py"])
def test_the_config_that_a_run_dumps_is_read_again(tmp_path, config):
    cfg = load_config(config)
    cfg.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").model == cfg.model


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("", None),
        ("max_epochs = 1", "unknown key 'max_epochs' in the config: set train_cfg.max_epochs"),
        ("trian_cfg = dict(max_epochs=3)", "did you mean 'train_cfg'"),
    ],
)
def test_the_config_that_mmdetection_dumps_is_read_unless_one_of_its_variables_is_changed(tmp_path, more, message):
    Config.fromfile(SHIPPED / "yolox/yolox_tiny_8xb8-300e_coco.py").dump(tmp_path / "dumped.py")
    with (tmp_path / "dumped.py").open("a") as file:
        file.write(more)
    with pytest.raises(ConfigError, match=message) if message else nullcontext():
        load_config(tmp_path / "dumped.py")


@pytest.mark.filterwarnings("error")
def test_a_variable_of_a_dump_that_has_another_value_than_its_place_is_a_warning(tmp_path):
    (tmp_path / "dumped.py").write_text("train_pipeline = [dict(type='Resize', scale=8)]")
    with pytest.raises(UserWarning, match=r"dumped.py: nothing reads 'train_pipeline', a variable of the files"):
        load_config(tmp_path / "dumped.py")


def test_a_name_that_a_file_uses_twice_by_one_line_is_shown_at_both_places(tmp_path):
    with pytest.raises(
        ConfigError, match=r"set train_dataloader\S+, val_dataloader.dataset.data_root, test_dataloader"
    ):
        load(tmp_path, RETINA, "data_root = '/elsewhere/'")
