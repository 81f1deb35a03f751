"""The parts of the jobs that need no training; whole runs are in tests/e2e/test_train.py."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from covidmm.datasets.image_folders import read_image_folder
from covidmm.datasets.prepared_folder import read_prepared
from covidmm.engine.predicting import predicting_sha256
from covidmm.engine.training_images import image_key
from covidmm.errors import CheckpointError, ConfigError, DataError
from covidmm.jobs import train_test
from covidmm.jobs.evaluated import Evaluation
from covidmm.jobs.job_inputs import check_annotation_files
from covidmm.jobs.train_test import _load, _set_aside, evaluate, train
from covidmm.reports.detections import of_run
from covidmm.reports.runs import find_runs
from covidmm.utils.malloc import NEVER_RELEASE


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_the_work_dir_is_the_argument_or_named_after_the_config(tmp_path):
    assert _load("configs/small/frcnn_r18_siim.py", None, [], "none").work_dir == "work_dirs/frcnn_r18_siim"
    assert _load("configs/small/frcnn_r18_siim.py", tmp_path, [], "none").work_dir == str(tmp_path)


def test_earlier_checkpoints_are_moved_each_time_to_a_new_folder(tmp_path):
    for number in (1, 2):
        (tmp_path / "epoch_3.pth").write_bytes(b"%d" % number)
        (tmp_path / "best_x_epoch_3.pth").touch()
        _set_aside(tmp_path)
        assert (tmp_path / f"earlier_{number}/epoch_3.pth").read_bytes() == b"%d" % number
    assert not list(tmp_path.glob("*.pth"))


def test_a_folder_without_checkpoints_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    _set_aside(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_faults_are_raised_before_anything_is_built(tmp_path):
    with pytest.raises(ConfigError, match="did you mean"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, options=["trian_cfg.max_epochs=1"])
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"none\.pth: no such checkpoint to start from"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, resume="none.pth")
    with pytest.raises(CheckpointError, match=r"covidmm://none: no "):
        train("configs/small/frcnn_r18_siim.py", tmp_path, options=["load_from=covidmm://none"])
    with pytest.raises(ConfigError, match=r"^--out .*: is a folder; name the file to write"):
        evaluate("configs/small/frcnn_r18_siim.py", tmp_path / "none.pth", out=tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        evaluate("configs/small/frcnn_r18_siim.py", tmp_path / "none.pth", tmp_path)
    with pytest.raises(CheckpointError, match=r"covidmm://none: no .*none\.pth; .* folder that has it$"):
        evaluate("configs/small/frcnn_r18_siim.py", "covidmm://none", tmp_path)
    data = "train_dataloader.dataset.data_root=nowhere"
    with pytest.raises(DataError, match=r"nowhere/annotations/train\.json: no such file, named by train_dataloader"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, options=[data])
    own = "test_evaluator.type=CocoMetric"
    with pytest.raises(ConfigError, match="--show-dir needs DetectionMetric or LabelMetric"):
        evaluate("configs/small/frcnn_r18_siim.py", "x.pth", tmp_path, show_dir="x", options=[own])
    assert not list(tmp_path.iterdir())


def test_a_training_keeps_the_memory_of_its_steps(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(train_test, "keep_freed_memory", done.append)
    runner = SimpleNamespace(train=lambda: done.append("trained"), register_hook=lambda hook: None)
    monkeypatch.setattr(train_test, "_runner", lambda cfg, trains: runner)
    monkeypatch.setattr(train_test, "require_annotations", lambda cfg, splits: None)
    assert train("configs/small/frcnn_r18_siim.py", tmp_path) == tmp_path
    assert done == [NEVER_RELEASE, "trained"]


@pytest.fixture
def chosen(random_ensemble, tmp_path, monkeypatch):
    """Chooses the threshold of a test; what validation finds is 0.7, and what it was asked is kept."""
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))

    def choose(*options, provenance=None, trained_on=()):
        cfg = _load("configs/phantom/yolov5n_phantom.py", tmp_path, options, "none")
        path = tmp_path / "a.pth"
        keys = torch.tensor([image_key(*one) for one in trained_on], dtype=torch.int64)
        torch.save({"state_dict": {}, "meta": {"provenance": provenance or {}, "training_images": keys}}, path)
        run = Evaluation(cfg, "c.py", "", path, tmp_path / "p.json")
        asked = []
        found = {"detection/threshold": 0.7, "detection/best_f1": 0.5}

        def runner(own, trains):
            asked.append(own)
            return SimpleNamespace(test=lambda: found)

        monkeypatch.setattr(train_test, "_runner", runner)
        train_test._prepare_boxes(run, {"detection/threshold": 0.3, "detection/best_f1": 0.5})
        train_test._choose_threshold(run, False)
        return run, asked

    return choose


def test_the_threshold_of_validation_is_taken_where_it_predicted_in_the_same_way(chosen):
    run, asked = chosen()
    assert (run.cfg.test_evaluator.threshold, run.threshold_source, asked) == (0.3, "validation", [])
    way = predicting_sha256(run.cfg, run.cfg.val_dataloader.dataset.pipeline)
    assert chosen(provenance={"predicting_sha256": way})[1] == []


def test_another_way_of_predicting_chooses_a_threshold_of_its_own(chosen, capsys):
    run, (asked,) = chosen("test_time_augmentation=True")
    assert run.cfg.test_evaluator.threshold == 0.7
    assert run.threshold_source == "validation, predicted with test-time augmentation"
    assert asked.test_dataloader.dataset.ann_file == "annotations/val.json"
    assert asked.test_dataloader.dataset.pipeline == run.cfg.test_dataloader.dataset.pipeline
    assert (asked.test_evaluator.threshold, asked.test_evaluator.outfile) == (None, None)
    assert "threshold: the checkpoint's was chosen without test-time augmentation; choosing" in capsys.readouterr().out
    way = predicting_sha256(run.cfg, run.cfg.val_dataloader.dataset.pipeline)
    run, asked = chosen("model.test_cfg.max_per_img=1", provenance={"predicting_sha256": way})
    assert (len(asked), run.threshold_source) == (1, "validation, predicted with this test_cfg and test pipeline")


def test_without_validation_images_it_is_said_what_the_threshold_was_chosen_for(chosen):
    run, asked = chosen("test_time_augmentation=True", "val_dataloader.dataset.ann_file=none.json")
    assert (run.cfg.test_evaluator.threshold, asked) == (0.3, [])
    assert run.threshold_source == "validation without test-time augmentation: none was chosen for it"


def test_images_that_trained_the_checkpoint_choose_and_score_nothing(chosen, random_ensemble, tmp_path):
    val, test = (read_image_folder(random_ensemble.prepared, split).images[0] for split in ("val", "test"))
    with pytest.raises(CheckpointError, match=rf"val\.json trained it, such as '{val.image_id}'"):
        chosen("test_time_augmentation=True", trained_on=[(val.study_id, val.image_id)])
    chosen(trained_on=[(test.study_id, test.image_id)])
    with pytest.raises(CheckpointError, match=rf"test\.json trained it, such as '{test.image_id}'"):
        evaluate("configs/phantom/yolov5n_phantom.py", tmp_path / "a.pth", tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_pictures_are_drawn_where_data_prefix_says_and_a_report_finds_predictions(
    random_ensemble, tmp_path, monkeypatch
):
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    pictures = tmp_path / "pictures"
    pictures.symlink_to(random_ensemble.prepared / "images")
    member = random_ensemble.members["yolo"]
    options = [f"test_dataloader.dataset.data_prefix.img={pictures}", "test_dataloader.num_workers=0"]
    out, show = tmp_path / "deep" / "found.json", tmp_path / "show"
    found = evaluate(member.config, member.checkpoint, tmp_path / "run", out=out, show_dir=show, options=options)
    assert len(list(show.glob("*.png"))) == found["images"] + 1
    (run,) = find_runs([tmp_path / "run"]).runs
    assert run.predictions == out
    compared = of_run(run, list(read_prepared(random_ensemble.prepared).splits.values()))
    assert len(compared.images) == found["images"]


def test_annotation_files_of_mmdetections_data_sets_are_read_before_anything_is_built(tmp_path):
    path = tmp_path / "own.json"
    image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
    path.write_text(json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}))
    own = {"type": "CocoDataset", "data_root": str(tmp_path), "ann_file": "own.json", "metainfo": {"classes": ("a",)}}
    wrapped = {"type": "RepeatDataset", "times": 2, "dataset": own}
    for dataset in (own, wrapped):
        with pytest.raises(DataError, match=r"own\.json: image 1: a box has no whole number as id"):
            check_annotation_files({"train_dataloader": {"dataset": dataset}}, ("train", "val"))
    with pytest.raises(DataError, match="no whole number as id"):
        check_annotation_files({"test_evaluator": {"type": "DetectionMetric", "ann_file": str(path)}}, ("test",))
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        check_annotation_files({"test_dataloader": {"dataset": {**own, "ann_file": "gone.json"}}}, ("test",))


def test_files_by_which_nothing_can_be_scored_are_refused_before_anything_is_built(tmp_path):
    def write(name, image, crowd):
        box = {"id": 1, "image_id": image, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": crowd}
        images = [{"id": image, "file_name": "a.png", "width": 9, "height": 9}]
        content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    own = {"type": "CocoDataset", "ann_file": write("own.json", 1, 0), "metainfo": {"classes": ("a",)}}
    cfg = {"val_dataloader": {"dataset": own}, "val_evaluator": {"type": "DetectionMetric"}}
    for name, image, crowd, message in (
        ("crowd.json", 1, 1, r"crowd\.json: no image has a true box; nothing can be scored by it"),
        ("other.json", 2, 0, r"other\.json: has none of the images of .*own\.json, which are evaluated"),
    ):
        cfg["val_evaluator"]["ann_file"] = write(name, image, crowd)
        with pytest.raises(DataError, match=message):
            check_annotation_files(cfg, ("val",))
    cfg["val_evaluator"]["ann_file"] = own["ann_file"]
    check_annotation_files(cfg, ("val",))


@pytest.mark.filterwarnings("ignore")
def test_plain_mmengine_trains_the_same(random_ensemble, tmp_path, monkeypatch):
    """Pretrained weights, too, which a line of the config names."""
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    config = "configs/phantom/study_r18_phantom.py"
    options = {"pretrained": "nih", "train_cfg.max_epochs": 1, "train_dataloader.dataset.indices": 8}
    options |= {f"{split}_dataloader.num_workers": 0 for split in ("train", "val")}
    backbone = _load(config, None, [], "none").model.backbone
    torch.manual_seed(7)
    torch.save(MODELS.build({**backbone, "_scope_": "mmdet"}).state_dict(), tmp_path / "r18_nih.pth")

    train(config, tmp_path / "ours", options=[f"{key}={value}" for key, value in options.items()])
    cfg = Config.fromfile(config)
    # a name of its own: MMEngine takes runs of one name that begin in the same second for one
    cfg.merge_from_dict({**options, "work_dir": str(tmp_path / "plain"), "experiment_name": "plain"})
    Runner.from_cfg(cfg).train()
    ours, plain = (torch.load(tmp_path / run / "epoch_1.pth", weights_only=True) for run in ("ours", "plain"))
    assert ours["state_dict"].keys() == plain["state_dict"].keys()
    assert all(torch.equal(value, plain["state_dict"][name]) for name, value in ours["state_dict"].items())
    for run in ("ours", "plain"):
        log = next((tmp_path / run).glob("*/*.log")).read_text()
        assert "checkpoint covidmm://r18_nih: 100.0% of " in log
    cfg.pretrained = "nhi"
    cfg.experiment_name = "misspelt"
    with pytest.raises(ConfigError, match="did you mean 'nih'"):
        Runner.from_cfg(cfg).train()


@pytest.mark.filterwarnings("ignore")
def test_mmdetection_s_metrics_are_kept_beside_covidmm_s(random_ensemble, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    member = random_ensemble.members["yolo"]
    truth = random_ensemble.prepared / "annotations" / "test.json"
    coco = f"dict(type='CocoMetric', ann_file={str(truth)!r}, metric='bbox')"
    base = f"_base_ = {str(Path(member.config).resolve())!r}\n"
    (tmp_path / "both.py").write_text(f"{base}test_evaluator = [{coco}, _base_.test_evaluator]")
    (tmp_path / "coco.py").write_text(f"{base}test_evaluator = dict(_delete_=True, **{coco})")
    options = ["test_dataloader.num_workers=0", "test_dataloader.dataset.indices=2"]
    both = evaluate(tmp_path / "both.py", member.checkpoint, tmp_path / "both", options=options)
    alone = evaluate(tmp_path / "coco.py", member.checkpoint, tmp_path / "coco", options=options)
    assert {"mAP_50", "threshold_source", "coco/bbox_mAP"} <= set(both)
    assert {"coco/bbox_mAP": both["coco/bbox_mAP"]}.items() <= alone.items()
    kept = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert kept["detectors"]["yolo"]["images"] == 2
    assert "coco/bbox_mAP" in kept["evaluators"]["yolo"]
    assert "no predictions are kept" in capsys.readouterr().out
    assert not (tmp_path / "coco" / "predictions.json").exists()
