"""Export trained models as ONNX files, each compared with PyTorch before it is written."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from torchvision.ops import box_iou

from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import Backend, Member
from covidmm.errors import CheckpointError, DataError
from covidmm.findings import Detections
from covidmm.inference.backends import METADATA_KEY, open_session, require
from covidmm.inference.detector import Detector, classes_of, fingerprint
from covidmm.inference.graphs import graph_of, input_size, stretches_or_pads
from covidmm.outputs.dicom_sr import require_threshold
from covidmm.phantom.study import plan_study, render
from covidmm.radiograph import Radiograph, of_array
from covidmm.utils.fileio import write_bytes
from covidmm.utils.provenance import versions

#: The first opset whose RoiAlign samples as ``aligned=True`` does.
OPSET = 17
#: Chosen here: boxes of the ONNX file and of PyTorch must overlap by more.
IOU = 0.99
#: Chosen here: boxes of lower confidence are not compared.
SCORE = 0.3
#: Chosen here: how far the confidences of a pair, or two probabilities, may be apart.
SCORE_TOLERANCE = 0.01
#: Phantoms of the comparison, their sides in pixels, and their seed; chosen here.
IMAGES, SIDES, SEED = 20, (320, 480), 7


@dataclass(frozen=True)
class Agreement:
    """How an exported model compares with PyTorch.

    Attributes:
        images: how many were compared.
        boxes: how many boxes of PyTorch were above the threshold; 0 for a classifier.
        worst_iou: the least IoU of a box with its counterpart; 1 without boxes.
        worst_score: the greatest difference of two confidences or probabilities.
    """

    images: int
    boxes: int
    worst_iou: float
    worst_score: float

    @property
    def holds(self) -> bool:
        """Whether the export may be used."""
        return self.worst_iou > IOU and self.worst_score <= SCORE_TOLERANCE


def export(config: str, checkpoint: str, out: Path, score: float = SCORE) -> tuple[dict[str, Any], Agreement]:
    """Write a model as ONNX if ONNX Runtime finds with it what PyTorch finds.

    Args:
        config: of a detector of opacities or of a classifier.
        checkpoint: a file, ``covidmm://NAME`` or a work dir.
        out: the file to write.
        score: boxes of lower confidence are not compared.

    Returns:
        The metadata in the file, and how it compares.

    Raises:
        CovidmmError: a config or checkpoint that cannot be used or exported, or a disagreement; nothing is written.
    """
    for package in ("onnx", "onnxruntime"):
        require(package)
    require_threshold(score, "--score")
    if not out.parent.is_dir() or out.is_dir():
        raise DataError(f"{out}: not a file in a folder that exists")
    content, metadata = to_onnx(config, checkpoint)
    compare = _compare_classifier if metadata["kind"] == "classifier" else _compare_detector
    agreement = compare(config, checkpoint, content, score)
    if metadata["kind"] != "classifier" and not agreement.boxes:
        raise CheckpointError(
            f"{checkpoint}: no box above {score} on {IMAGES} phantoms, so nothing to compare; lower --score"
        )
    if not agreement.holds:
        raise CheckpointError(
            f"{out}: not written, the ONNX model differs from PyTorch: worst IoU {agreement.worst_iou:.4f}, "
            f"worst difference of scores {agreement.worst_score:.4f}"
        )
    write_bytes(out, content)
    return metadata, agreement


def to_onnx(config: str, checkpoint: str) -> tuple[bytes, dict[str, Any]]:
    """A model as the bytes of an ONNX file, and the metadata in it; nothing is compared.

    Raises:
        CovidmmError: a config or checkpoint that cannot be used or exported.
    """
    import onnx  # extra 'export'

    cfg = load_config(config)
    model, _ = load_trained(cfg, trained_file(checkpoint))
    size = input_size(cfg)
    kind, graph = graph_of(model, size)
    metadata = _metadata(config, checkpoint, cfg) | {
        "kind": kind,
        "input_size": list(size),
        "fixed_size": kind != "single-stage" or stretches_or_pads(cfg),
    }
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    names = ["rois", "class_logits", "box_deltas"] if kind == "two-stage" else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every constant, and they are meant to be constants
        if names is None:
            outputs = graph(images)
            names = ["logits"] if kind == "classifier" else [f"output{index}" for index in range(len(outputs))]
        dynamic = {"rois": {0: "proposals"}, "class_logits": {0: "proposals"}, "box_deltas": {0: "proposals"}}
        if kind != "two-stage":
            dynamic = {name: {0: "batch"} for name in ("images", *names)}
            if not metadata["fixed_size"]:  # padded to one size, images would not give quite the boxes of PyTorch
                dynamic = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in dynamic}
        metadata["batch"] = 1 if kind == "two-stage" else "dynamic"
        buffer = BytesIO()
        torch.onnx.export(
            graph.eval(),
            (images,),
            buffer,
            input_names=["images"],
            output_names=names,
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,  # traces MMDetection's heads, which torch.export does not
        )
    proto = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(metadata)})
    onnx.checker.check_model(proto)
    return proto.SerializeToString(), metadata


def phantoms(count: int = IMAGES) -> list[Radiograph]:
    """Phantom radiographs, the same ones every time."""
    pictures = (render(plan_study(SEED, index, SIDES), 0).grey for index in range(count))
    return [of_array((picture * 255).astype(np.uint8)) for picture in pictures]


def agreement_of(wanted: list[Detections], found: list[Detections], score: float = SCORE) -> Agreement:
    """Pair the boxes of two backends, both ways: neither may miss what the other is sure of.

    Args:
        wanted: PyTorch's, per image.
        found: the other's.
        score: boxes of lower confidence need no counterpart.
    """
    ious, differences = [1.0], [0.0]
    for one, other in zip(wanted, found, strict=True):
        for these, those in ((one, other), (other, one)):
            iou, difference = _closest(these, those, score)
            ious += iou
            differences += difference
    boxes = sum(int((one.scores > score).sum()) for one in wanted)
    return Agreement(len(wanted), boxes, min(ious), max(differences))


def _closest(these: Detections, those: Detections, score: float) -> tuple[list[float], list[float]]:
    sure = these.scores > score
    if not sure.any():
        return [], []
    if not len(those):
        return [0.0], [1.0]
    overlaps = box_iou(torch.from_numpy(these.boxes[sure]), torch.from_numpy(those.boxes)).numpy()
    best = overlaps.argmax(1)
    differences = np.abs(these.scores[sure] - those.scores[best])
    return overlaps.max(1).tolist(), differences.tolist()


def _metadata(config: str, checkpoint: str, cfg: Any) -> dict[str, Any]:
    made = fingerprint(Member(config, checkpoint, test_time_augmentation=False))
    preprocessor = cfg.model.data_preprocessor
    return {
        **{key: made[key] for key in ("config", "config_sha256", "checkpoint_sha256")},
        "versions": versions(),
        "classes": list(classes_of(cfg)),
        **{key: preprocessor.get(key) for key in ("mean", "std", "bgr_to_rgb", "pad_value")},
    }


def _compare_detector(config: str, checkpoint: str, content: bytes, score: float) -> Agreement:
    images = phantoms()
    member = Member(config, checkpoint, test_time_augmentation=False)
    exported = Detector(member, "exported", "cpu", content=content, backend=Backend("onnxruntime", "memory"))
    torch_boxes = Detector(member, "torch", "cpu")
    return agreement_of([torch_boxes([one])[0] for one in images], [exported([one])[0] for one in images], score)


def _compare_classifier(config: str, checkpoint: str, content: bytes, score: float) -> Agreement:
    cfg = load_config(config)
    model, _ = load_trained(cfg, trained_file(checkpoint))
    pipeline = Compose([step for step in cfg.test_dataloader.dataset.pipeline if step.type == "Resize"])
    grey = [cv2.cvtColor(one.pixels, cv2.COLOR_GRAY2BGR) for one in phantoms()]
    inputs = [torch.from_numpy(pipeline({"img": one})["img"].transpose(2, 0, 1).copy()) for one in grey]
    with torch.inference_mode():
        images = model.data_preprocessor({"inputs": inputs})["inputs"]
        wanted = model.scores(model(images))
        (logits,) = open_session("onnxruntime", content)(images.numpy())
        found = model.scores(torch.from_numpy(logits))
    return Agreement(len(inputs), 0, 1.0, float((wanted - found).abs().max()))
