"""The checks before the first epoch, on tiny prepared data sets."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import ConfigDict
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.engine.optimization import SteppedCosineLR
from covidmm.engine.preflight import PreflightHook, check_anchors, check_classes, check_labels
from covidmm.errors import ConfigError, DataError
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.utils.command_line import _one_line

PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "Resize", "scale": (128, 128)},
    {"type": "PackDetInputs"},
]


@pytest.fixture(scope="module")
def prepared(make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preflight")
    make.siim(folder / "raw", studies=40, size=(120, 96))
    prepare("siim", folder / "raw", folder / "out", Options(workers=1))
    return folder / "out"


@pytest.fixture(scope="module")
def model(request):
    init_default_scope("mmdet")
    cfg = load_config(request.config.rootpath / "configs/small/frcnn_r18_siim.py")
    return MODELS.build(ConfigDict(cfg.model))


def dataset(root, split="train", pipeline=PIPELINE, **options):
    return DATASETS.build(
        ConfigDict(
            type="SIIMDataset", data_root=str(root), ann_file=f"annotations/{split}.json", pipeline=pipeline, **options
        )
    )


# the rest of a runner, of a training of two epochs
FITTING = {
    "train_loop": SimpleNamespace(max_epochs=2, max_iters=20),
    "optim_wrapper": SimpleNamespace(param_groups=[{"lr": 0.1}]),
    "param_schedulers": None,
    "cfg": ConfigDict(),
    "hooks": [],
    "val_evaluator": SimpleNamespace(metrics=[SimpleNamespace(prefix="detection")]),
}


class Loader:
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 1


def run(model, train, val=None, **parts):
    loaders = SimpleNamespace(
        train_dataloader=Loader(train),
        val_dataloader=SimpleNamespace(dataset=val),
        val_loop=val,
        model=model,
        logger=logging.getLogger("preflight-test"),
        **{**FITTING, **parts},
    )
    PreflightHook().before_train(loaders)


@pytest.mark.parametrize(
    ("split", "steps", "error"),
    [
        (
            "train",
            PIPELINE[:-1],
            r"^train_dataloader.dataset.pipeline: gives .*; expected PackDetInputs as its last step",
        ),
        ("val", PIPELINE[:-1], r"^val_dataloader.dataset.pipeline: gives "),
        ("train", PIPELINE[1:], r"^train_dataloader.dataset.pipeline: \w+ fails on its first image: KeyError: "),
        ("train", [PIPELINE[0], *PIPELINE[2:]], r"^train_dataloader.dataset.pipeline: "),
        ("train", [], r"^train_dataloader.dataset.pipeline: gives .*img_path"),
    ],
)
def test_a_pipeline_that_a_model_cannot_read_is_refused(prepared, model, split, steps, error):
    data = {"train": dataset(prepared), "val": None, split: dataset(prepared, split, steps)}
    with pytest.raises(ConfigError, match=error):
        run(model, data["train"], data["val"])


def test_the_pipeline_of_a_test_is_checked_too(prepared):
    runner = SimpleNamespace(test_dataloader=Loader(dataset(prepared, "test", PIPELINE[:-1])))
    with pytest.raises(ConfigError, match=r"^test_dataloader.dataset.pipeline: gives .*; expected PackDetInputs"):
        PreflightHook().before_test(runner)


def test_a_best_checkpoint_by_a_metric_of_no_evaluator_is_refused(prepared, model):
    hook = CheckpointHook(save_best="coco/bbox_mAP", rule="greater")
    with pytest.raises(ConfigError, match=r"save_best is 'coco/bbox_mAP', but val_evaluator gives detection/\.\.\."):
        run(model, dataset(prepared), dataset(prepared, "val"), hooks=[hook])


def optimizer(lr=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"train_loop": SimpleNamespace(max_epochs=0, max_iters=0)}, "nothing would be trained, 0 epochs of 1 batches"),
        ({"optim_wrapper": optimizer(lr=0.0)}, "optim_wrapper.optimizer.lr is 0: nothing would be trained"),
        (
            {"cfg": ConfigDict(pretrained="nih", pretrained_weights={"nih": "covidmm://x"}, model={"backbone": {}})},
            "pretrained: nothing reads it",
        ),
        (
            {"cfg": ConfigDict(pretrained="nih", model={"backbone": {}})},
            "pretrained is 'nih', and the config has no pretrained_weights",
        ),
    ],
)
def test_a_run_that_trains_nothing_or_from_other_weights_is_refused(prepared, model, parts, error):
    with pytest.raises(ConfigError, match=error):
        run(model, dataset(prepared), **parts)


def test_pretrained_beside_a_backbone_with_weights_of_its_own_is_a_warning(prepared, model, caplog):
    cfg = ConfigDict(
        pretrained="nih", pretrained_weights={"nih": "covidmm://x"}, model={"backbone": {"init_cfg": None}}
    )
    with caplog.at_level(logging.WARNING):
        run(model, dataset(prepared), cfg=cfg)
    assert "pretrained: 'nih' is not taken, model.backbone.init_cfg is None" in caplog.text


def test_a_schedule_that_does_not_fit_is_a_warning(prepared, model, caplog):
    with caplog.at_level(logging.WARNING):
        run(model, dataset(prepared), param_schedulers=[SteppedCosineLR(optimizer(), 0.05, end=1)])
    assert "schedule: SteppedCosineLR ends after 1 epochs, the run after 2: lr is not annealed" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), r"is damaged \("),
        (lambda path: path.write_bytes(b"no picture"), r"is damaged \(cannot identify image file\)"),
        (lambda path: cv2.imwrite(str(path), np.zeros((20, 30), np.uint8)), "is 30 x 20 pixels, the annotations say"),
    ],
    ids=["empty", "cut off", "text", "another size"],
)
def test_a_picture_that_cannot_be_trained_on_is_named(prepared, model, tmp_path, spoil, error):
    copy = changed(prepared, tmp_path, lambda content: None)
    path = Path(dataset(copy).get_data_info(3)["img_path"])
    spoil(path)
    with pytest.raises(DataError, match=rf"{path.name}: {error}.* \(1 of \d+ of the train set\)"):
        run(model, dataset(copy))


def test_a_picture_that_is_damaged_inside_is_named_when_it_is_read(prepared, tmp_path):
    """As a worker of the data loader reads it; a header and an end say nothing of what is between."""
    copy = changed(prepared, tmp_path, lambda content: None)
    damaged = dataset(copy)
    path = Path(damaged.get_data_info(0)["img_path"])
    content = bytearray(path.read_bytes())
    content[60:-40] = bytes(len(content) - 100)
    path.write_bytes(content)
    loader = torch.utils.data.DataLoader(damaged, num_workers=1, collate_fn=list)
    with pytest.raises(DataError) as raised:
        next(iter(loader))
    assert _one_line(raised.value).startswith(f"{path}: is damaged (")


def changed(prepared, tmp_path, change, split="train"):
    copy = tmp_path / "copy"
    shutil.copytree(prepared, copy)
    path = copy / f"annotations/{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return copy


def test_it_says_how_many_images_it_keeps(prepared, model, caplog):
    with caplog.at_level(logging.INFO):
        run(model, dataset(prepared), dataset(prepared, "val"))
    train = json.loads((prepared / "annotations/train.json").read_text())
    boxed = len({a["image_id"] for a in train["annotations"]})
    assert f"train: {boxed} images with boxes and {len(train['images']) - boxed} without" in caplog.text
    assert "the best anchor overlaps them" in caplog.text


def test_what_a_filter_drops_is_said(prepared, model, caplog):
    with caplog.at_level(logging.INFO):
        run(model, dataset(prepared, indices=10))
    assert "filter_cfg or indices drop" in caplog.text


def test_it_leaves_every_random_generator_as_it_was(prepared, model):
    np.random.seed(5)
    torch.manual_seed(5)
    expected = np.random.get_state()[1].copy(), torch.get_rng_state()
    train = dataset(prepared, pipeline=[*PIPELINE[:3], {"type": "RandomFlip", "prob": 0.5}, PIPELINE[3]])
    run(model, train)
    assert np.array_equal(np.random.get_state()[1], expected[0])
    assert torch.equal(torch.get_rng_state(), expected[1])


def test_an_image_in_two_splits_is_refused(prepared, model):
    with pytest.raises(DataError, match="is in training and in validation"):
        run(model, dataset(prepared), dataset(prepared))


def test_a_missing_image_is_named(prepared, model, tmp_path):
    copy = changed(prepared, tmp_path, lambda content: content["images"][0].update(file_name="gone/away.png"))
    with pytest.raises(DataError, match=r"gone/away\.png: no such image \(1 of"):
        run(model, dataset(copy))


@pytest.mark.parametrize("kind", ["SIIMDataset", "SIIMStudyDataset"])
def test_a_missing_image_is_named_before_a_test_too(prepared, tmp_path, kind):
    copy = changed(prepared, tmp_path, lambda content: content["images"][0].update(file_name="gone/away.png"), "test")
    for root, raises in ((prepared, False), (copy, True)):
        options = {"data_root": str(root), "pipeline": [PIPELINE[0], {"type": "PackDetInputs", "meta_keys": ()}]}
        built = DATASETS.build(ConfigDict(type=kind, ann_file="annotations/test.json", **options))
        runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=built))
        if raises:
            with pytest.raises(DataError, match=r"gone/away\.png: no such image \(1 of \d+ of the test set\)"):
                PreflightHook().before_test(runner)
        else:
            PreflightHook().before_test(runner)


def test_a_set_without_a_box_is_refused(prepared, model, tmp_path):
    copy = changed(prepared, tmp_path, lambda content: content.update(annotations=[]))
    with pytest.raises(DataError, match=r"the train set has .* images and not one box"):
        run(model, dataset(copy))


def test_boxes_that_the_pipeline_loses_are_missed(prepared, model):
    pipeline = [
        *PIPELINE[:3],
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (1000, 1000), "keep_empty": False},
        PIPELINE[3],
    ]
    with pytest.raises(DataError, match=r"ground-truth boxes survives the training pipeline"):
        run(model, dataset(prepared, pipeline=pipeline))


def test_another_number_of_classes_is_refused(model):
    with pytest.raises(
        ConfigError, match=r"roi_head\.bbox_head\.num_classes is 1, the data set has 2: opacity, nodule"
    ):
        check_classes(model, ("opacity", "nodule"))


def test_two_averages_of_the_weights_are_refused(prepared, model):
    with pytest.raises(ConfigError, match="custom_hooks: 2 of type EMAHook, expected one"):
        run(model, dataset(prepared), hooks=[EMAHook(), EMAHook()])


def test_anchors_that_fit_nothing_are_refused(model):
    tiny = torch.tensor([[10.0, 10, 12, 12], [50, 50, 53, 52]])
    with pytest.raises(ConfigError, match="2 boxes of 1 sampled images reach the model; no anchor overlaps any"):
        check_anchors(model, [(tiny, (128, 128))])


def test_anchors_that_fit_badly_are_warned_of(model):
    flat = torch.tensor([[0.0, 50, 128, 66]])
    assert "WARNING" in check_anchors(model, [(flat, (128, 128))])


def test_a_detector_without_anchors_passes():
    assert "which has no anchors" in check_anchors(torch.nn.Linear(1, 1), [(torch.zeros(0, 4), (8, 8))])


class Labels:
    """As much of a data set of label vectors as the check looks at."""

    def __init__(self, *labels):
        self.labels = [np.array(label, np.float32) for label in labels]

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, index):
        return {"gt_label": self.labels[index]}


def test_labels_are_counted_and_absent_ones_named():
    assert check_labels(Labels([1, 0], [1, 1]), ("Mass", "Hernia")) == "Mass 2, Hernia 1"
    line = check_labels(Labels([1, 0], [1, 0]), ("Mass", "Hernia"))
    assert line == "Mass 2, Hernia 0: WARNING, no positive of Hernia"


def test_labels_that_are_all_negative_are_refused():
    with pytest.raises(DataError, match="every label of every image is negative"):
        check_labels(Labels([0, 0]), ("Mass", "Hernia"))
