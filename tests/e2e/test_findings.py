"""From phantoms of several findings to a scored ensemble: what the tools write, held against other programs."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ensemble_boxes import weighted_boxes_fusion
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pydicom import dcmread

from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.prepare.layouts.vindr import FINDINGS
from tests.helpers.tool_runs import ROOT, run_tool

pytestmark = pytest.mark.e2e
MEMBERS = ("frcnn", "yolo")
# a network of a few steps, and every box that it has
SMALL = """
_base_ = "{root}/configs/phantom/{name}_phantom_findings.py"
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
train_dataloader = dict(batch_size=2)
param_scheduler = [_base_.param_scheduler[{cosine}]]  # without a warm-up of more steps
model = dict(test_cfg={test_cfg})
"""


def run(tool, *arguments, **env):
    ended = run_tool(tool, *arguments, env=env)
    assert ended.code == 0, ended.output[-4000:]
    return ended.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which all steps have run."""
    folder = tmp_path_factory.mktemp("findings")
    prepared = folder / "prepared"
    run("prepare.py", "phantom", folder / "raw", "--layout", "vindr", "--studies", 24, "--seed", 2)
    run("prepare.py", "vindr", folder / "raw", prepared, "--test-fraction", 0.3)
    root = {"FINDINGS_ROOT": str(prepared)}
    for name, shipped, epochs, cosine, test_cfg in (
        ("frcnn", "frcnn_r18", 3, 1, "dict(rcnn=dict(score_thr=0.0))"),
        ("yolo", "yolov5n", 1, 0, "dict(score_thr=0.0)"),
    ):
        config, run_dir = folder / f"{name}.py", folder / name
        config.write_text(SMALL.format(root=ROOT, name=shipped, epochs=epochs, cosine=cosine, test_cfg=test_cfg))
        run("train.py", config, "--work-dir", run_dir, **root)
        test = ["--work-dir", folder / "test", "--out", folder / f"test/{name}.json"]
        run("test.py", config, run_dir, *test, **root)
    config = "configs/phantom/ensemble_wbf_findings.py"
    options = ["--predictions", folder / "fused", "--cfg-options", "strategy.final_nms=None"]
    for name in MEMBERS:
        options += [
            f"members.{name}.{key}={value}"
            for key, value in (
                ("config", folder / f"{name}.py"),
                ("checkpoint", folder / name),
                ("score_threshold", 0.0),
            )
        ]
    run("ensemble.py", config, "--data", prepared, "--score", "--show-dir", folder / "pictures", *options, **root)
    # reports are made of DICOM files
    (folder / "dicom").mkdir()
    for image in json_of(prepared, "annotations/test.json")["images"][:3]:
        shutil.copy(folder / f"raw/train/{image['image_id']}.dicom", folder / "dicom")
    reports = ["--sr", folder / "sr", "--sr-threshold", 0.01]
    run("ensemble.py", config, "--data", folder / "dicom", *reports, *options, **root)
    return folder


def json_of(*parts):
    return json.loads(Path(*parts).read_text())


def boxes_of(path):
    """A COCO results list by image id."""
    by_image = {}
    for one in json_of(path):
        by_image.setdefault(one["image_id"], []).append(one)
    return by_image


def average_precisions(annotations, results):
    """pycocotools' mAP@.50:.95 and mAP@.50 by class; nothing of one without a true box."""
    truth = COCO(str(annotations))
    scored = COCOeval(truth, truth.loadRes(results), "bbox")
    scored.evaluate()
    scored.accumulate()
    precision = scored.eval["precision"][:, :, :, 0, -1]
    return {
        category["name"]: {"mAP": precision[:, :, index].mean(), "mAP_50": precision[0, :, index].mean()}
        for index, category in enumerate(truth.loadCats(scored.params.catIds))
        if (precision[:, :, index] > -1).all()
    }


def test_all_findings_are_listed_in_the_publishers_order(made):
    assert json_of(made, "prepared/prepared.json")["classes"] == list(FINDINGS)
    for split in ("train", "val", "test"):
        names = [one["name"] for one in json_of(made, f"prepared/annotations/{split}.json")["categories"]]
        assert names == list(FINDINGS)
    for metrics in ("test", "fused/test"):
        for found in json_of(made, metrics, "metrics.json")["detectors"].values():
            assert list(found["per_class"]) == list(FINDINGS)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_detector_of_findings_is_scored_as_pycocotools_does(made, name):
    own = json_of(made, "test/metrics.json")["detectors"][name]["per_class"]
    results = json_of(made, f"test/{name}.json")
    same_scores(own, average_precisions(made / "prepared/annotations/test.json", results))


@pytest.mark.parametrize("name", [*MEMBERS, "ensemble"])
def test_the_ensemble_and_its_members_are_scored_as_pycocotools_does(made, name):
    """The pictures have the originals' pixels, so the prepared labels are the truth of the originals, too."""
    own = json_of(made, "fused/test/metrics.json")["detectors"][name]["per_class"]
    annotations = made / "prepared/annotations/test.json"
    ids = {image["image_id"]: image["id"] for image in json_of(annotations)["images"]}
    listed = [ids[image["image_id"]] for image in json_of(made, f"fused/test/{name}.header.json")["images"]]
    categories = [one["id"] for one in json_of(annotations)["categories"]]
    results = [
        {**one, "image_id": listed[one["image_id"] - 1], "category_id": categories[FINDINGS.index(label)]}
        for one in json_of(made, f"fused/test/{name}.json")
        for label in [FINDINGS[one["category_id"] - 1]]
    ]
    expected = average_precisions(annotations, results)
    same_scores(own, expected)
    # some of so many boxes lie right; of Faster R-CNN's hundred an image maybe none
    assert name == "frcnn" or any(one["mAP_50"] > 0 for one in expected.values())


def same_scores(own, expected):
    assert {name for name, one in own.items() if one["boxes"]} == set(expected)
    assert len(expected) >= 4
    for name, scores in expected.items():
        assert {key: own[name][key] for key in scores} == pytest.approx(scores, abs=1e-9)


def test_each_class_is_fused_by_itself_as_ensemble_boxes_does(made):
    header = json_of(made, "fused/test/ensemble.header.json")
    members, fused = (
        [boxes_of(made / f"fused/test/{name}.json") for name in MEMBERS],
        boxes_of(made / "fused/test/ensemble.json"),
    )
    compared = 0
    for number, image in enumerate(header["images"], start=1):
        sides = np.array([image["width"], image["height"]] * 2)
        for category in range(1, len(FINDINGS) + 1):
            own = [[one for one in found.get(number, []) if one["category_id"] == category] for found in members]
            boxes = [[as_shares(one["bbox"], sides) for one in found] for found in own]
            scores = [[one["score"] for one in found] for found in own]
            expected, confidence, _ = weighted_boxes_fusion(
                boxes, scores, [[0] * len(one) for one in scores], iou_thr=0.55, skip_box_thr=0.0
            )
            got = [one for one in fused.get(number, []) if one["category_id"] == category]
            assert len(got) == len(expected)
            if not got:
                continue
            # equal scores come in any order; the files have thousandths of a pixel
            listed = np.array([[*as_shares(one["bbox"], sides), one["score"]] for one in got])
            apart = np.abs(listed[:, None] - np.column_stack([expected, confidence])).max(axis=2)
            assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 1e-5
            compared += len(got)
    assert compared > 100


def as_shares(box, sides):
    x, y, width, height = box
    return np.clip(np.array([x, y, x + width, y + height]) / sides, 0, 1)


def test_nothing_speaks_of_opacities_alone(made):
    text = (made / "fused/test/submission.csv").read_text()
    assert "opacity" not in text
    rows = list(csv.DictReader(text.splitlines()))
    found = {word for row in rows for word in row["PredictionString"].split() if word[0].isalpha()}
    assert found <= {*(name.replace(" ", "_") for name in FINDINGS), "none"}
    assert len(found) > 4
    assert len(rows) == len(json_of(made, "prepared/annotations/test.json")["images"])
    reports = list((made / "sr").rglob("*.dcm"))
    assert len(reports) == 3
    names = {str(one.value) for path in reports for one in dcmread(path).iterall() if one.keyword == "CodeMeaning"}
    assert names & set(FINDINGS)
    assert (made / "pictures/grid.png").is_file()


def test_the_examples_of_the_page_are_configs(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FINDINGS_ROOT", str(made / "prepared"))
    (tmp_path / "small").symlink_to(ROOT / "configs/small")
    (tmp_path / "_base_").symlink_to(ROOT / "configs/_base_")
    joined, several, ensemble = re.findall(r"```python\n(.*?)```", (ROOT / "docs/own-data.md").read_text(), re.DOTALL)
    for name, text in (("joined", joined), ("several", several), ("fused", ensemble)):
        placed = text.replace('"data/', f'"{made}/').replace('"frcnn_r18', f'"{ROOT}/configs/small/frcnn_r18')
        (tmp_path / f"{name}.py").write_text(placed)
    (made / "theirs").symlink_to(made / "prepared")
    (made / "findings").symlink_to(made / "prepared")
    cfg = load_config(tmp_path / "joined.py")
    assert cfg.train_dataloader.dataset.metainfo.classes == ("Lung Opacity", "Pleural effusion")
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    cfg = load_config(tmp_path / "several.py")
    assert [one.metainfo.classes for one in cfg.train_dataloader.dataset.datasets] == [FINDINGS] * 2
    config = load_ensemble(tmp_path / "fused.py")
    assert config.classes is None
    assert all(Path(member.config).is_file() for member in config.members.values())
    assert list(config.class_codes) == ["Pleural effusion"]
