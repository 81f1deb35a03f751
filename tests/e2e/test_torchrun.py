"""Two processes, as torchrun starts them, against one: the same numbers, no image lost or counted twice, one writer."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.jobs.train_test import evaluate, train
from tests.helpers.torchrun import ROOT, errors, forked, torchrun

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).with_name("jobs_under_torchrun.py")
NAMES = ("one", "two")
# Nothing random but the order, whole samples and batch norms that do not learn: then the mean over processes is that
# over the batch. 128 px, one image a batch in the test, and every box counts.
CONFIG = """
_base_ = "{root}/configs/small/frcnn_r18_siim.py"
everything = dict(sampler=dict(num=1_000_000))
model = dict(
    backbone=dict(norm_eval=True),
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    train_cfg=dict(rpn=everything, rcnn=everything),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
resize = dict(type="Resize", scale=(128, 128), keep_ratio=False)
load, boxes, pack = (_base_.train_pipeline[k] for k in (0, 1, -1))
test_pipeline = [*_base_.test_pipeline]
test_pipeline[2] = resize
load_from = "{start}"
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(pipeline=[load, boxes, resize, pack]))
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
uneven = "{uneven}"
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(ann_file=uneven, pipeline=test_pipeline))
test_evaluator = dict(ann_file=uneven)
"""


@pytest.fixture(scope="module")
def runs(random_ensemble, tmp_path_factory):
    """The three jobs in this process and in two others: work dirs, and what those printed."""
    folder = tmp_path_factory.mktemp("runs")
    config = str(folder / "plain.py")
    uneven = shutil.copy(random_ensemble.prepared / "annotations/test.json", folder / "uneven.json")
    content = json.loads(uneven.read_text())
    content["images"].pop()
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] in known]
    uneven.write_text(json.dumps(content))
    Path(config).write_text(CONFIG.format(root=ROOT, start=folder / "start.pth", uneven=uneven))
    init_default_scope("mmdet")
    torch.save({"state_dict": MODELS.build(load_config(config).model).state_dict()}, folder / "start.pth")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    asked = {}
    for name in NAMES:
        asked[name] = {
            "train": {"config": config, "work_dir": str(folder / name / "train")},
            "evaluate": {
                "config": config,
                "checkpoint": str(folder / "one/train/epoch_1.pth"),
                "work_dir": str(folder / name / "test"),
            },
            "ensemble": {
                "config": str(random_ensemble.config),
                "data": str(random_ensemble.raw),
                "predictions": str(folder / name / "ensemble"),
            },
        }
    train(**asked["one"]["train"])
    evaluate(**asked["one"]["evaluate"])
    ensemble(Request(**asked["one"]["ensemble"]))
    for job in asked["two"].values():
        job["launcher"] = "pytorch"
    ended = forked(str(SCRIPT), json.dumps(asked["two"]), SIIM_ROOT=str(random_ensemble.prepared))
    assert [one.code for one in ended] == [0, 0], ended
    yield folder, "".join(one.output for one in ended)
    torch.set_num_threads(threads)
    monkeypatch.undo()


def checkpoints(folder):
    return [torch.load(folder / name / "train/epoch_1.pth", weights_only=True) for name in NAMES]


def test_a_training_of_two_takes_the_steps_of_one(runs):
    folder, _ = runs
    one, two = (content["meta"] for content in checkpoints(folder))
    assert one["iter"] == two["iter"] > 1
    # other batches: the mean over them is not that over images
    assert two["val_metrics"]["val_loss"] == pytest.approx(one["val_metrics"]["val_loss"], rel=0.01)


def test_two_learn_what_one_learns(runs):
    folder, _ = runs
    first, second = (content["state_dict"] for content in checkpoints(folder))
    assert first.keys() == second.keys()
    start = torch.load(folder / "start.pth", weights_only=True)["state_dict"]
    moved, also = (torch.cat([(state[name] - start[name]).flatten() for name in start]) for state in (first, second))
    assert moved.norm() > 0
    assert (also - moved).norm() < 0.01 * moved.norm()


def test_every_image_is_tested_once_at_an_uneven_split(runs):
    folder, _ = runs
    images = json.loads((folder / "uneven.json").read_text())["images"]
    assert len(images) == 3
    predictions = [json.loads((folder / name / "test/predictions.json").read_text()) for name in NAMES]
    assert {found["image_id"] for found in predictions[0]} == {image["id"] for image in images}
    assert predictions[0] == predictions[1]
    metrics = [json.loads((folder / name / "test/metrics.json").read_text())["detectors"]["frcnn"] for name in NAMES]
    assert metrics[0] == metrics[1]
    assert metrics[0]["images"] == len(images)


def test_the_submission_is_that_of_one_process(runs):
    folder, _ = runs
    one, two = (folder / name / "ensemble/train" for name in NAMES)
    files = {path.name for path in one.iterdir()}
    assert files == {path.name for path in two.iterdir()}
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    with (two / "submission.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 24 + 25


def test_one_process_writes_and_prints(runs):
    folder, said = runs
    assert len(list((folder / "two/train").rglob("*.log"))) == 1
    assert len({path.name.split(".")[-2] for path in (folder / "two/train").rglob("events.out.tfevents.*")}) == 1
    assert not list((ROOT / ".dist_test").glob("*"))
    assert len(re.findall("submission: ", said)) == 1
    assert len(re.findall("^metrics: ", said, re.MULTILINE)) == 1


def test_a_bad_call_is_one_line_of_both(tmp_path):
    ended = torchrun(ROOT / "tools/ensemble.py", tmp_path / "none.py", "--data", tmp_path, "--launcher", "pytorch")
    assert ended.returncode == 1
    assert errors(ended) == [f"error: {tmp_path}/none.py: no such config file"]
