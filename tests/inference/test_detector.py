"""The detectors against MMEngine's own runner, on random weights."""

import json
from dataclasses import replace
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.models import RetinaNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import Member
from covidmm.errors import CheckpointError, ConfigError
from covidmm.findings import Detections
from covidmm.inference.detector import Detector, fingerprint, select
from covidmm.jobs.train_test import evaluate

MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"


@pytest.fixture(scope="module", params=["frcnn", "yolo", "yolo augmented"])
def member(request, random_ensemble):
    found = random_ensemble.members[request.param.split()[0]]
    return replace(found, test_time_augmentation=request.param.endswith("augmented"))


def in_original(results, image):
    """A COCO results list in pixels of the prepared image, as boxes of the original inside it."""
    boxes = np.array([result["bbox"] for result in results]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    size = np.array([image["original_width"], image["original_height"]] * 2)
    boxes = np.clip(boxes * size / np.array([image["width"], image["height"]] * 2), 0, size)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[kept], np.array([result["score"] for result in results])[kept]


def test_boxes_are_those_of_the_runner_in_pixels_of_the_original(member, random_ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    options = [f"test_time_augmentation={member.test_time_augmentation}"] if "yolo" in member.config else []
    evaluate(member.config, member.checkpoint, tmp_path, tmp_path / "results.json", options=options)
    images = {
        i["image_id"]: i for i in json.loads((random_ensemble.prepared / "annotations/test.json").read_text())["images"]
    }
    wanted = {}
    for result in json.loads((tmp_path / "results.json").read_text()):
        wanted.setdefault(result["image_id"], []).append(result)
    detector = Detector(member, "mine", device="cpu")
    cases = read_image_folder(random_ensemble.prepared).images
    total = 0
    for case, found in zip(cases, detector([case.read().shrunk(1024) for case in cases]), strict=True):
        boxes, scores = in_original(wanted.get(images[case.image_id]["id"], []), images[case.image_id])
        assert found.scores == pytest.approx(scores, abs=1e-5)
        # random weights give scores so near that a batch of another size changes their order
        nearest = np.abs(found.boxes[:, None] - boxes[None]).max(-1).argmin(1)
        assert sorted(nearest) == list(range(len(boxes)))
        assert found.boxes == pytest.approx(boxes[nearest], abs=0.02)
        assert found.scores == pytest.approx(scores[nearest], abs=1e-5)
        total += len(boxes)
    assert total > 20


def test_no_radiograph_is_no_box(random_ensemble):
    assert Detector(random_ensemble.members["yolo"], "yolo", device="cpu")([]) == []


def test_a_model_that_answers_no_number_is_named(random_ensemble, monkeypatch):
    detector = Detector(random_ensemble.members["yolo"], "yolo", device="cpu")
    instances = InstanceData(bboxes=torch.full((1, 4), torch.nan), scores=torch.ones(1), labels=torch.zeros(1))
    monkeypatch.setattr(detector.model, "test_step", lambda samples: [DetDataSample(pred_instances=instances)])
    case = read_image_folder(random_ensemble.prepared).images[0]
    with pytest.raises(CheckpointError, match="member 'yolo': boxes and scores must be finite; has its training div"):
        detector([case.read()])


def test_the_fingerprint_follows_the_model_and_the_weights(random_ensemble, tmp_path):
    member = random_ensemble.members["yolo"]
    first = fingerprint(member)
    assert fingerprint(replace(member, weight=3.0, score_threshold=0.4, nms_iou_threshold=0.2)) == first
    assert fingerprint(replace(member, test_time_augmentation=True)) != first
    other = tmp_path / "other.pth"
    other.write_bytes(b"x")
    assert fingerprint(replace(member, checkpoint=str(other)))["checkpoint_sha256"] != first["checkpoint_sha256"]
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        fingerprint(replace(member, checkpoint=str(tmp_path / "none.pth")))


def test_augmentation_needs_its_pipeline(random_ensemble):
    with pytest.raises(ConfigError, match="test_time_augmentation needs a tta_model"):
        Detector(replace(random_ensemble.members["frcnn"], test_time_augmentation=True), "frcnn")


def test_selection_sorts_cuts_and_suppresses():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 9, 9]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.9, 0.2, 0.05], np.float32))
    member = Member("a", "b", score_threshold=0.1)
    assert select(found, member).scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert select(found, replace(member, nms_iou_threshold=0.5)).scores.tolist() == pytest.approx([0.9, 0.2])
    nothing = Detections(np.zeros((0, 4)), np.zeros(0))
    assert len(select(nothing, replace(member, nms_iou_threshold=0.5))) == 0


def write_config(path, member, **model):
    """A member's config with another model."""
    path.write_text(f"_base_ = '{Path(member.config).resolve()}'\nmodel = dict(_delete_=True, **{model!r})\n")
    return replace(member, config=str(path))


def saved(tmp_path, model):
    """A checkpoint of a model's random weights."""
    torch.save({"state_dict": MODELS.build(Config({"model": model}).model).state_dict()}, tmp_path / "random.pth")
    return str(tmp_path / "random.pth")


@pytest.mark.parametrize("stage", [0, 2])
def test_a_cascade_with_a_stage_of_other_classes_is_refused_before_its_weights_are_read(
    random_ensemble, tmp_path, stage
):
    heads = [{"type": "Shared2FCBBoxHead", "num_classes": 80 if index == stage else 1} for index in range(3)]
    member = write_config(
        tmp_path / "cascade.py",
        random_ensemble.members["frcnn"],
        type="CascadeRCNN",
        backbone={"type": "ResNet", "depth": 18},
        roi_head={"type": "CascadeRoIHead", "bbox_head": heads},
    )
    with pytest.raises(ConfigError, match="member 'mine': a head of it has 80 classes"):
        Detector(member, "mine", device="cpu")


def test_a_detector_of_masks_alone_is_refused(random_ensemble, tmp_path):
    model = Config.fromfile(MMDET_CONFIGS / "solo/decoupled-solo-light_r50_fpn_3x_coco.py").model.to_dict()
    model["backbone"] |= {"depth": 18, "init_cfg": None}
    model["neck"]["in_channels"] = [64, 128, 256, 512]
    member = write_config(tmp_path / "solo.py", random_ensemble.members["frcnn"], **model)
    with pytest.raises(ConfigError, match="member 'mine': its SOLO finds masks, no boxes"):
        Detector(replace(member, checkpoint=saved(tmp_path, model)), "mine", device="cpu")


class Failing(RetinaNet):
    def predict(self, inputs, samples, **kwargs):
        raise KeyError("text")


class OneByOne(RetinaNet):
    def predict(self, inputs, samples, **kwargs):
        assert len(inputs) == 1
        return super().predict(inputs, samples, **kwargs)


def retinanet(kind):
    model = Config.fromfile(MMDET_CONFIGS / "retinanet/retinanet_r18_fpn_1x_coco.py").model.to_dict()
    model["backbone"]["init_cfg"] = None
    model["bbox_head"]["num_classes"] = 1
    model["test_cfg"]["score_thr"] = 0.0
    return model | {"type": kind}


@pytest.fixture
def registered(monkeypatch):
    for kind in (Failing, OneByOne):
        monkeypatch.setitem(MODELS._module_dict, kind.__name__, kind)


def test_a_detector_that_fails_on_a_plain_image_is_refused_before_the_work(random_ensemble, tmp_path, registered):
    model = retinanet("Failing")
    member = write_config(tmp_path / "failing.py", random_ensemble.members["frcnn"], **model)
    with pytest.raises(ConfigError, match="member 'mine': cannot predict a plain image: KeyError: 'text'"):
        Detector(replace(member, checkpoint=saved(tmp_path, model)), "mine", device="cpu")


def test_a_detector_that_takes_one_image_is_given_one_at_a_time(random_ensemble, tmp_path, registered):
    one, several = retinanet("OneByOne"), retinanet("RetinaNet")
    checkpoint = saved(tmp_path, several)
    images = [case.read() for case in read_image_folder(random_ensemble.prepared).images[:3]]
    found = {}
    for name, model in (("one", one), ("several", several)):
        member = write_config(tmp_path / f"{name}.py", random_ensemble.members["frcnn"], **model)
        detector = Detector(replace(member, checkpoint=checkpoint), name, device="cpu")
        found[name] = detector(images)
        assert detector.forms.singly == (name == "one")
    for alone, together in zip(found["one"], found["several"], strict=True):
        assert len(alone.boxes) > 10
        assert alone.boxes == pytest.approx(together.boxes, abs=0.02)
