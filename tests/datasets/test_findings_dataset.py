"""Data sets of any classes, and the configs that follow them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mmdet
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

import covidmm.registration  # noqa: F401
from covidmm.engine.checkpointing import load_trained
from covidmm.engine.config import load_config
from covidmm.engine.data_classes import class_parameters, leave_out_other_classes
from covidmm.engine.training_provenance import training_provenance
from covidmm.errors import CheckpointError, ConfigError, DataError
from covidmm.jobs.train_test import evaluate
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

CLASSES = ("opacity", "effusion", "nodule")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared folder of 30 pictures with three classes."""
    folder = tmp_path_factory.mktemp("findings")
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(30):
        name = f"{number}.png"
        Image.fromarray(random.integers(0, 255, (80, 100), dtype=np.uint8)).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 100, "height": 80})
        annotations += [
            {"id": 10 * number + k, "image_id": number, "category_id": 5 * k, "bbox": [10 * k, 9, 20 + k, 31]}
            for k in range(3)
            if (number + k) % 3
        ]
    categories = [{"id": 5 * k, "name": name} for k, name in enumerate(CLASSES)]
    (folder / "all.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    prepare("coco", folder, folder.parent / "prepared", Options(workers=1, progress=False))
    return folder.parent / "prepared"


def dataset(prepared, **arguments):
    return DATASETS.build({"type": "FindingsDataset", "data_root": str(prepared), "pipeline": [], **arguments})


def labels(found):
    return [one["bbox_label"] for index in range(len(found)) for one in found.get_data_info(index)["instances"]]


def test_the_classes_are_those_of_the_folder(prepared):
    found = dataset(prepared)
    assert found.metainfo["classes"] == CLASSES
    content = json.loads((prepared / "annotations/train.json").read_text())
    assert len(found) == len(content["images"])
    assert sorted(labels(found)) == sorted(one["category_id"] - 1 for one in content["annotations"])
    info, image = found.get_data_info(0), content["images"][0]
    own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
    x, y, width, height = own[0]["bbox"]
    assert info["instances"][0]["bbox"] == pytest.approx([x, y, x + width, y + height])
    assert found.get_cat_ids(0) == [one["category_id"] - 1 for one in own]


def test_a_subset_in_another_order(prepared):
    every, found = dataset(prepared), dataset(prepared, metainfo={"classes": ("nodule", "opacity")})
    counts = np.bincount(labels(every), minlength=3)
    assert np.bincount(labels(found), minlength=2).tolist() == [counts[2], counts[0]]
    assert len(found) == len(every)


def test_a_mapping_joins_and_leaves_out(prepared):
    found = dataset(prepared, class_map={"effusion": "opacity", "nodule": None})
    counts = np.bincount(labels(dataset(prepared)), minlength=3)
    assert found.metainfo["classes"] == ("opacity",)
    assert np.bincount(labels(found)).tolist() == [counts[0] + counts[1]]


def test_images_without_boxes_can_be_left_out(prepared):
    found = dataset(prepared, metainfo={"classes": ("nodule",)}, filter_cfg={"filter_empty_gt": True})
    assert 0 < len(found) < len(dataset(prepared))
    assert all(found.get_data_info(index)["instances"] for index in range(len(found)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_map": {"opacitty": "x"}}, r"class_map names 'opacitty', the file has .*: did you mean 'opacity'\?"),
        ({"metainfo": {"classes": ("mass",)}}, "no category of the class 'mass'"),
        ({"data_root": None}, "name a prepared folder, for example by FINDINGS_ROOT"),
        ({"data_root": "/nowhere"}, "no such file; make it with `tools/prepare.py LAYOUT RAW /nowhere`"),
    ],
)
def test_what_does_not_fit_is_named(prepared, arguments, message):
    with pytest.raises(DataError, match=message):
        dataset(prepared, **arguments)


def test_a_class_that_is_known_to_be_absent(prepared):
    found = dataset(prepared, metainfo={"classes": ("mass", "nodule")}, absent=["mass"])
    assert set(labels(found)) == {1}


def classes_in(cfg):
    """Classes of the data sets, and of the heads, of a config."""
    train = cfg.train_dataloader.dataset
    sets = [train.get("dataset", train), cfg.val_dataloader.dataset, cfg.test_dataloader.dataset]
    head = cfg.model.get("bbox_head") or cfg.model.roi_head.bbox_head
    counts = {one["num_classes"] for one in (head if isinstance(head, list) else [head])}
    return {tuple(one["metainfo"]["classes"]) for one in sets}, counts


@pytest.fixture
def root(prepared, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("FINDINGS_ROOT", str(prepared))


@pytest.mark.parametrize("name", ["frcnn_r18_findings", "yolov5n_findings"])
def test_a_config_follows_the_folder(root, name):
    assert classes_in(load_config(f"configs/small/{name}.py")) == ({CLASSES}, {3})
    some = load_config(f"configs/small/{name}.py", ["classes=('nodule','opacity')"])
    assert classes_in(some) == ({("nodule", "opacity")}, {2})


def test_a_detector_of_mmdetection_follows_the_folder(root, tmp_path, request):
    base = request.config.rootpath / "configs/_base_/findings_detector.py"
    file = tmp_path / "mine.py"
    file.write_text(
        f"_base_ = ['mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', '{base}']\n"
        "class_map = {'effusion': 'opacity'}\n"
        "train_dataloader = dict(dataset=_base_.findings_train, **_base_.findings_loader)\n"
        "val_dataloader = dict(dataset=_base_.findings_val)\n"
        "test_dataloader = dict(dataset=_base_.findings_test)\n"
        "val_evaluator, test_evaluator = _base_.findings_val_evaluator, _base_.findings_test_evaluator\n"
        "default_hooks, custom_hooks = _base_.findings_hooks, _base_.findings_checks\n"
    )
    assert classes_in(load_config(file)) == ({("opacity", "nodule")}, {2})


def test_several_folders_train_together(root, prepared, tmp_path, request):
    file = tmp_path / "two.py"
    file.write_text(
        f"_base_ = '{request.config.rootpath}/configs/small/frcnn_r18_findings.py'\n"
        f"one = dict(type='FindingsDataset', data_root='{prepared}', pipeline=_base_.train_pipeline)\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[\n"
        "    dict(**one, class_map={'effusion': 'opacity'}),\n"
        "    dict(**one, class_map={'opacity': None, 'nodule': 'mass'}, absent=['opacity', 'nodule'])]))\n"
        "val_dataloader = test_dataloader = dict(dataset=dict(absent=['mass']))\n"
    )
    cfg = load_config(file)
    assert cfg.model.roi_head.bbox_head.num_classes == 4
    assert cfg.val_dataloader.dataset.metainfo.classes == ("opacity", "nodule", "effusion", "mass")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("classes=('opacity','opacity')", "classes: a name stands twice"),
        ("classes=opacity", "classes: expected a tuple of names, got 'opacity'"),
        ("class_map=3", "class_map: expected a dict of names, got 3"),
    ],
)
def test_classes_that_are_none_are_refused(root, option, message):
    with pytest.raises(ConfigError, match=message):
        load_config("configs/small/frcnn_r18_findings.py", [option])


def test_classes_of_a_config_that_reads_none_are_refused(root):
    with pytest.raises(ConfigError, match="classes: nothing reads it, the config has no data set of the type"):
        load_config("configs/small/frcnn_r18_siim.py", ["classes=('nodule',)"])


def test_a_machine_without_the_data_reads_the_config(monkeypatch, request, tmp_path):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("FINDINGS_ROOT", str(tmp_path / "nowhere"))
    assert "metainfo" not in load_config("configs/small/frcnn_r18_findings.py").test_dataloader.dataset


@pytest.fixture
def trained(root, tmp_path):
    """A small YOLOv5 with random weights whose checkpoint says its classes."""
    cfg = load_config("configs/small/yolov5n_findings.py")
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    content = {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": list(CLASSES)}}}
    torch.save(content, tmp_path / "yolo.pth")
    return tmp_path / "yolo.pth"


def test_a_test_folder_may_list_the_classes_in_another_order(trained, prepared, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    for path in (other / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 9, "name": "never"}, *content["categories"][::-1]]
        path.write_text(json.dumps(content))
    found = {}
    for name, folder in (("same", prepared), ("other", other)):
        monkeypatch.setenv("FINDINGS_ROOT", str(folder))
        found[name] = evaluate("configs/small/yolov5n_findings.py", trained, tmp_path / name)
    keys = [key for key in found["same"] if key.startswith("mAP")]
    assert keys
    assert {key: found["other"][key] for key in keys} == {key: found["same"][key] for key in keys}
    metrics = json.loads((tmp_path / "other/metrics.json").read_text())["detectors"]["yolo"]
    assert list(metrics["per_class"]) == list(CLASSES)
    assert metrics["confusion"]["classes"] == list(CLASSES)
    same = json.loads((tmp_path / "same/metrics.json").read_text())["detectors"]["yolo"]
    assert (metrics["confusion"], metrics["errors"]) == (same["confusion"], same["errors"])


@pytest.mark.parametrize("name", ["frcnn_r18_findings", "yolov5n_findings"])
def test_the_parameters_of_classes_are_those_of_the_last_layers(root, name):
    found = class_parameters(load_config(f"configs/small/{name}.py").model)
    assert found
    state = torch.get_rng_state()
    assert class_parameters(load_config(f"configs/small/{name}.py").model) == found
    assert torch.equal(torch.get_rng_state(), state)
    assert all("head" in one and ("pred" in one or "fc_cls" in one or "fc_reg" in one) for one in found)


def runner_of(cfg, classes, log, resume=False):
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": classes}))
    logger = SimpleNamespace(warning=log.append)
    return SimpleNamespace(cfg=cfg, _train_dataloader=loader, _load_from="x.pth", _resume=resume, logger=logger)


def test_what_was_learned_of_other_classes_is_left_out_and_said(root, trained):
    cfg, log = load_config("configs/small/yolov5n_findings.py"), []
    content = torch.load(trained, weights_only=True)
    leave_out_other_classes(runner_of(cfg, CLASSES, log), content)
    assert not log
    before = set(content["state_dict"])
    leave_out_other_classes(runner_of(cfg, CLASSES[::-1], log), content)
    assert before - set(content["state_dict"]) == class_parameters(cfg.model)
    assert log == [
        "x.pth: its classes are opacity, effusion, nodule, here they are nodule, effusion, opacity; "
        f"{len(class_parameters(cfg.model))} parameters of its heads are left out"
    ]
    with pytest.raises(CheckpointError, match="cannot be resumed: its classes are opacity, effusion, nodule, here"):
        leave_out_other_classes(runner_of(cfg, ("mass",), log, resume=True), torch.load(trained, weights_only=True))


def test_the_provenance_of_a_training_names_every_folder(root, prepared, tmp_path, request):
    one = f"dict(type='FindingsDataset', data_root='{prepared}', pipeline=_base_.train_pipeline)"
    file = tmp_path / "two.py"
    file.write_text(
        f"_base_ = '{request.config.rootpath}/configs/small/frcnn_r18_findings.py'\n"
        f"train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[{one}, {one}]))\n"
    )
    digest = json.loads((prepared / "prepared.json").read_text())["data_sha256"]
    found = training_provenance(load_config(file))
    assert (found["data_sha256"], found["data_sha256_of_each"]) == (digest, [digest, digest])
    alone = training_provenance(load_config("configs/small/yolov5n_findings.py"))
    assert alone["data_sha256"] == digest
    assert "data_sha256_of_each" not in alone


def test_a_model_is_built_with_the_classes_of_its_checkpoint(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("FINDINGS_ROOT", str(tmp_path / "nowhere"))
    cfg = load_config("configs/small/yolov5n_findings.py")
    assert cfg.model.bbox_head.num_classes == 1
    model, _ = load_trained(cfg, trained)
    assert model.bbox_head.num_classes == 3


def test_the_parameters_of_classes_of_a_backbone_that_computes_while_it_is_built():
    config = Path(mmdet.__file__).parent / ".mim/configs/swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py"
    init_default_scope("mmdet")
    found = class_parameters(Config.fromfile(config).model.to_dict())
    assert found == {"bbox_head.retina_cls.weight", "bbox_head.retina_cls.bias"}
