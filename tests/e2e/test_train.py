"""``tools/train.py`` and ``tools/test.py`` as processes of their own, on phantoms, killed and resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from tests.helpers.tool_runs import ROOT, shared_server, start_tool

pytestmark = pytest.mark.e2e
CONFIG = "configs/small/frcnn_r18_siim.py"
# a minute's worth of the small experiment: 128 px, two epochs
SMALL = [
    "train_cfg.max_epochs=2",
    "train_dataloader.dataset.pipeline.3.scale=(128,128)",
    "val_dataloader.dataset.pipeline.2.scale=(128,128)",
    "test_dataloader.dataset.pipeline.2.scale=(128,128)",
    "train_dataloader.batch_size=4",
    "model.test_cfg.rcnn.score_thr=0.0",
    "default_hooks.logger.interval=1",
]


def tool(name, *arguments, root=None):
    return start_tool(name, *arguments, env={"SIIM_ROOT": str(root)} if root else {})


def finish(running, code=0):
    ended = shared_server().wait(running)
    assert ended.code == code, ended.output[-4000:]
    return ended.output


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    finish(tool("prepare.py", "phantom", folder / "raw", "--studies", 24, "--seed", 3))
    finish(tool("prepare.py", "siim", folder / "raw", folder / "prepared", "--max-size", 256))
    return folder / "prepared"


@pytest.fixture(scope="module")
def undisturbed(phantoms, tmp_path_factory):
    """A training as a person starts it; the others here are forked from a process that has imported everything."""
    work_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    command = [sys.executable, "tools/train.py", CONFIG, "--work-dir", str(work_dir), "--cfg-options", *SMALL]
    environment = os.environ | {"SIIM_ROOT": str(phantoms), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=False, **pipes)
    assert ended.returncode == 0, ended.stdout[-4000:]
    return work_dir, ended.stdout


def test_training_says_what_it_keeps_how_long_it_takes_and_how_well_it_validates(undisturbed):
    work_dir, output = undisturbed
    assert "images with boxes and" in output
    assert "the best anchor overlaps them by IoU" in output
    assert re.search(
        r"^epoch 1/2  loss [\d.]+  mAP_50 [\d.]+ \(best [\d.]+, epoch 1\)  \d+:\d\d, \d+:\d\d left$",
        output,
        re.MULTILINE,
    )
    assert re.search(
        r"^trained in \d+:\d\d; best checkpoint: .*best_detection_mAP_50_epoch_\d\.pth$", output, re.MULTILINE
    )
    assert len(output.splitlines()) < 25, output
    (log,) = work_dir.rglob("*.log")
    assert all(
        text in log.read_text() for text in ("eta:", "val_loss:", "detection/mAP_50:", "Config:", "System environment")
    )
    assert {"epoch_1.pth", "epoch_2.pth"} <= {path.name for path in work_dir.iterdir()}
    assert len(list(work_dir.glob("best_*.pth"))) == 1
    assert list(work_dir.rglob("events.out.tfevents.*"))


def test_a_killed_run_resumes_to_the_same_weights_and_metrics(phantoms, undisturbed, tmp_path):
    process = tool("train.py", CONFIG, "--work-dir", tmp_path, "--cfg-options", *SMALL, root=phantoms)
    process.wait_for(r"^epoch 1/2")
    process.send(signal.SIGKILL, group=True)
    shared_server().wait(process)
    assert not (tmp_path / "epoch_2.pth").exists()

    output = finish(
        tool("train.py", CONFIG, "--work-dir", tmp_path, "--resume", "--cfg-options", *SMALL, root=phantoms)
    )
    assert "100.0% of" in output
    whole, resumed = (torch.load(d / "epoch_2.pth", weights_only=True) for d in (undisturbed[0], tmp_path))
    assert all(torch.equal(whole["state_dict"][name], value) for name, value in resumed["state_dict"].items())
    assert whole["meta"]["val_metrics"] == resumed["meta"]["val_metrics"]


def test_a_finished_training_says_that_nothing_is_left(phantoms, undisturbed, tmp_path):
    done = shutil.copytree(undisturbed[0], tmp_path / "run")
    kept = {path: path.read_bytes() for path in done.glob("*.pth")}
    output = finish(tool("train.py", CONFIG, "--work-dir", done, "--resume", "--cfg-options", *SMALL, root=phantoms))
    assert re.search(r"epoch_2\.pth: nothing is left to train, epoch 2 of 2 is finished", output)
    assert not re.search("^epoch", output, re.MULTILINE)
    assert {path: path.read_bytes() for path in done.glob("*.pth")} == kept


def test_yolov5_is_trained_and_tested_with_augmentation(phantoms, tmp_path):
    """``tests/faults`` kills such a training, whose mosaic, warm-up and averaged weights have a state to lose."""
    config, whole = "configs/phantom/yolov5n_phantom.py", tmp_path / "whole"
    options = ["train_cfg.max_epochs=1"]
    output = finish(tool("train.py", config, "--work-dir", whole, "--cfg-options", *options, root=phantoms))
    # a box that the edge of a mosaic cuts may be too thin for any
    assert re.search(r"anchors answer for (9\d|100)% of them", output)
    options = ["test_time_augmentation=True", "model.test_cfg.score_thr=0.0"]
    output = finish(tool("test.py", config, whole, "--work-dir", tmp_path, "--cfg-options", *options, root=phantoms))
    assert "mAP@.50" in output
    assert "threshold: the checkpoint's was chosen without test-time augmentation; choosing one on the images" in output
    assert set(json.loads((tmp_path / "metrics.json").read_text())["detectors"]) == {"yolo"}
    trained_on = json.loads((phantoms / "annotations/train.json").read_text())["images"]
    meta = torch.load(whole / "epoch_1.pth", weights_only=True)["meta"]
    assert len(meta["training_images"]) == len(trained_on)
    assert len(meta["provenance"]["predicting_sha256"]) == 64


def test_the_study_classifier_is_trained_tested_explained_and_published(phantoms, tmp_path):
    config, work_dir = "configs/phantom/study_r18_phantom.py", tmp_path / "run"
    output = finish(
        tool("train.py", config, "--work-dir", work_dir, "--cfg-options", "train_cfg.max_epochs=1", root=phantoms)
    )
    assert "preflight: train: negative" in output
    assert re.search(r"^epoch 1/1  loss [\d.]+  val_loss [\d.]+ \(best ", output, re.MULTILINE), output
    (log,) = work_dir.rglob("*.log")
    assert "study/mAP:" in log.read_text()
    pictures = tmp_path / "pictures"
    output = finish(tool("test.py", config, work_dir, "--work-dir", tmp_path, "--show-dir", pictures, root=phantoms))
    assert "confusion matrix, rows true:" in output
    study = json.loads((tmp_path / "metrics.json").read_text())["study"]
    assert {"accuracy", "f1", "precision", "recall", "mAP", "auroc", "ece", "confusion"} <= set(study)
    assert (pictures / "confusion.png").exists()
    output = finish(start_tool("publish.py", work_dir, "mine", env={"COVIDMM_CHECKPOINTS": str(tmp_path / "store")}))
    assert "covidmm://mine: backbone of" in output
    assert json.loads((tmp_path / "store/mine.json").read_text())["validation"]


def test_a_run_in_mixed_precision_on_another_box_loss_works(phantoms, tmp_path):
    options = [*SMALL, "train_cfg.max_epochs=1", "train_dataloader.dataset.indices=8"]
    config = "configs/phantom/frcnn_r18_phantom_ciou.py"
    output = finish(tool("train.py", config, "--amp", "--work-dir", tmp_path, "--cfg-options", *options, root=phantoms))
    assert "filter_cfg or indices drop" in output
    assert (tmp_path / "epoch_1.pth").exists()


def test_the_test_tool_prints_the_table_and_leaves_metrics_predictions_and_pictures(phantoms, undisturbed, tmp_path):
    out, pictures = tmp_path / "predictions.json", tmp_path / "pictures"
    arguments = [CONFIG, undisturbed[0], "--work-dir", tmp_path, "--out", out, "--show-dir", pictures]
    output = finish(tool("test.py", *arguments, "--cfg-options", SMALL[3], SMALL[5], root=phantoms))
    assert "mAP@.50" in output
    assert "threshold from" in output

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found = metrics["detectors"]["frcnn"]
    assert {"mAP_50", "mAP", "f1", "precision", "recall", "threshold"} <= set(found)
    assert len(metrics["provenance"]["frcnn"]["checkpoint_sha256"]) == 64

    assert json.loads((tmp_path / "predictions.provenance.json").read_text()) == metrics["provenance"]["frcnn"]
    origin = torch.load(undisturbed[0] / "epoch_2.pth", weights_only=True)["meta"]["provenance"]
    assert origin["data_sha256"] == metrics["provenance"]["frcnn"]["prepared_sha256"]
    assert origin["versions"] == metrics["provenance"]["frcnn"]["versions"]

    truth = json.loads((phantoms / "annotations/test.json").read_text())
    predictions = json.loads(out.read_text())
    assert predictions
    assert {p["image_id"] for p in predictions} <= {image["id"] for image in truth["images"]}
    names = {path.stem for path in pictures.glob("*.png")}
    assert names == {Path(image["file_name"]).stem for image in truth["images"]} | {"grid"}
    assert cv2.imread(str(pictures / "grid.png")).shape[1] > 800


def test_an_earlier_run_is_set_aside_not_overwritten(phantoms, undisturbed, tmp_path):
    from covidmm.jobs.train_test import _set_aside

    (tmp_path / "epoch_7.pth").write_bytes(b"hours of work")
    _set_aside(tmp_path)
    assert (tmp_path / "earlier_1" / "epoch_7.pth").read_bytes() == b"hours of work"
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/none.py"], "configs/none.py: no such config file"),
        ([CONFIG, "--cfg-options", "trian_cfg.max_epochs=1"], "did you mean 'train_cfg'?"),
        ([CONFIG, "--resume"], "no checkpoint to resume"),
        (["configs/frcnn_x101_siim.py"], "covidmm://x101_nih: no "),
    ],
)
def test_a_bad_call_ends_in_one_line(phantoms, tmp_path, arguments, message):
    output = finish(tool("train.py", *arguments, "--work-dir", tmp_path, root=phantoms), code=1)
    last = output.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_a_missing_data_set_says_which_command_makes_it(tmp_path):
    output = finish(tool("train.py", CONFIG, "--work-dir", tmp_path, root=tmp_path / "nowhere"), code=1)
    assert "tools/prepare.py siim" in output.strip().splitlines()[-1]


def test_a_missing_image_is_named_before_training(phantoms, tmp_path):
    copy = tmp_path / "prepared"
    shutil.copytree(phantoms, copy)
    train = json.loads((copy / "annotations/train.json").read_text())
    gone = copy / "images" / train["images"][0]["file_name"]
    gone.unlink()
    output = finish(tool("train.py", CONFIG, "--work-dir", tmp_path / "run", root=copy), code=1)
    assert gone.name in output.strip().splitlines()[-1]


def test_ctrl_c_says_how_to_resume(phantoms, tmp_path):
    process = tool("train.py", CONFIG, "--work-dir", tmp_path, "--cfg-options", *SMALL, root=phantoms)
    process.wait_for(r"^output ")
    process.send(signal.SIGINT)
    output = finish(process, code=130)
    # with --resume after an epoch, without before
    assert re.search(r"^stopped; .*the same command", output, re.MULTILINE)
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


@pytest.mark.parametrize("config", [CONFIG, "configs/small/study_r18_siim.py"])
def test_a_loss_that_is_no_number_stops_the_run_and_names_its_files(phantoms, tmp_path, config):
    options = ["optim_wrapper.optimizer.lr=1e30", "param_scheduler=[]", "optim_wrapper.clip_grad=None"]
    options += SMALL[:5] if config == CONFIG else ["train_dataloader.batch_size=4", "pretrained=none"]
    command = ["train.py", config, "--work-dir", tmp_path / "run", "--cfg-options", *options]
    last = finish(tool(*command, root=phantoms), code=1).strip().splitlines()[-1]
    assert re.match(r"error: epoch 1, iteration [2-9]: .*loss.* is (nan|-?inf) for the batch ", last), last
    assert len(set(re.findall(r"prepared/images/\S+\.png", last))) == 4
    assert not list((tmp_path / "run").glob("*.pth"))
