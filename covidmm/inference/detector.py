"""Run one trained detector on radiographs in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import batched_nms

from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.engine.data_classes import classes_of, follow_checkpoint, follows_data
from covidmm.engine.model_checks import why_no_boxes
from covidmm.ensembles.ensemble_config import Backend, Member
from covidmm.errors import CheckpointError, ConfigError
from covidmm.findings import Detections
from covidmm.inference.backends import ExportedDetector, exact_precisions, open_session, read_metadata
from covidmm.inference.fast_forms import take_fast_forms
from covidmm.models.checkpoints import stored_classes
from covidmm.radiograph import Radiograph, of_array
from covidmm.utils.boxes import cut_to_image, rescaled
from covidmm.utils.packaged_configs import config_path
from covidmm.utils.precision import fastest_precision
from covidmm.utils.provenance import sha256


class Detector:
    """One trained MMDetection detector.

    Args:
        member: its config, checkpoint and options.
        name: what it is called in errors.
        device: where it runs; CUDA where there is one by default, the CPU with an exported network.
        backend: what runs its network; the member's by default.
        content: the exported network's bytes, instead of the backend's file.
        indices: the label that each of its classes gets; None leaves its boxes out. Its own class indices by default.

    Raises:
        ConfigError: the config is missing or broken, its heads are of other classes than its data, or its backend
            cannot run here.
        CheckpointError: the checkpoint or exported file is missing, unsafe to read, or of another model.
    """

    def __init__(
        self,
        member: Member,
        name: str,
        device: str | None = None,
        backend: Backend | None = None,
        content: bytes | None = None,
        indices: Sequence[int | None] | None = None,
    ) -> None:
        cfg = load_config(member.config)
        self.classes = _fit_classes(cfg, member, name)
        labels = range(len(self.classes)) if indices is None else indices
        self._labels = np.array([-1 if label is None else label for label in labels], np.int64)
        self.augmented = _augmented(cfg, member)
        self.backend = backend or member.backend
        if self.backend.type == "torch":
            model = load_trained(cfg, trained_file(member.checkpoint))[0]
            if reason := why_no_boxes(model):
                raise ConfigError(f"member '{name}': its {type(model).__name__} {reason}")
            self.forms = take_fast_forms(model, name, fingerprint(member))
            self._singly = self.forms.singly
            device = device or _default_device()
            self.backend = replace(self.backend, precision=_chosen_precision(self.backend.precision, device))
            if self.backend.precision == "float16" and torch.device(device).type != "cuda":
                raise ConfigError(f"member '{name}': precision 'float16' needs a GPU, use 'bfloat16' on a CPU")
            if self.backend.precision != "float32":
                _reduce_precision(model, device, self.backend.precision)
        else:
            model, device = _exported(cfg, member, name, self.backend, content), "cpu"
            self._singly = False
        pipeline = cfg.test_dataloader.dataset.pipeline
        if self.augmented:
            model = MODELS.build({**cfg.tta_model, "module": model})
            pipeline = cfg.tta_pipeline
        self.name = name
        nn.Module.to(model, device)  # some detectors' own `to` returns nothing
        model.eval()
        self.model = model
        self.grey, self.pipeline = _for_decoded(pipeline)
        if self.backend.type == "torch" and self.forms.failed:
            self._try()

    def _try(self) -> None:
        """Predict a blank image, before the work.

        Raises:
            ConfigError: that fails.
        """
        try:
            self([of_array(np.zeros((256, 256), np.uint8))])
        except Exception as error:  # a model may fail in any way
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ConfigError(f"member '{self.name}': cannot predict a plain image: {cause}") from error

    def __call__(self, radiographs: Sequence[Radiograph]) -> list[Detections]:
        """Find boxes.

        Args:
            radiographs: pixels of any size; the header has the size of the original.

        Returns:
            Per radiograph, boxes in pixels of the original image.

        Raises:
            CheckpointError: the model answers with boxes or scores that are not finite.
        """
        if not radiographs:
            return []
        samples = [self.pipeline(_sample(index, one, self.grey)) for index, one in enumerate(radiographs)]
        batches = [[one] for one in samples] if self._singly else [samples]
        with torch.inference_mode():
            results = [one for batch in batches for one in self.model.test_step(pseudo_collate(batch))]
        try:
            found = (_in_original(result, one) for result, one in zip(results, radiographs, strict=True))
            return [self._relabelled(one) for one in found]
        except ValueError as error:
            raise CheckpointError(f"member '{self.name}': {error}; has its training diverged?") from error

    def _relabelled(self, found: Detections) -> Detections:
        """The same with the labels that are asked for.

        Raises:
            ValueError: a label is none of its classes.
        """
        if len(found) and found.labels.max() >= len(self._labels):
            raise ValueError(f"label {found.labels.max()} is none of its {len(self._labels)} classes")
        labels = self._labels[found.labels]
        return Detections(found.boxes[labels >= 0], found.scores[labels >= 0], labels[labels >= 0])


def trained_classes(member: Member) -> tuple[str, ...]:
    """The classes that a detector was trained to find.

    They are those of its config; of one that follows its data set, those that its checkpoint was trained on.

    Raises:
        ConfigError: the config is missing or broken.
        CheckpointError: the checkpoint is missing or unsafe to read.
    """
    return _trained_classes(load_config(member.config), member)


def _trained_classes(cfg: Config, member: Member) -> tuple[str, ...]:
    if follows_data(cfg):
        stored = stored_classes(trained_file(member.checkpoint))
        if stored:
            return stored
    return classes_of(cfg)


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _chosen_precision(precision: str, device: str) -> str:
    return fastest_precision(device) if precision == "auto" else precision


def _reduce_precision(model: nn.Module, device: str, precision: str) -> None:
    """Let a detector's backbone and neck compute in lower precision; its heads keep float32.

    With bfloat16's 8 bits of mantissa in the heads, a proposal at 192 pixels would move by half of one.
    """
    extract = model.extract_feat

    def extract_reduced(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(torch.device(device).type, getattr(torch, precision)):
            return tuple(feature.float() for feature in extract(images))

    model.extract_feat = extract_reduced


def fingerprint(member: Member) -> dict[str, Any]:
    """Hashes of all that decides a detector's predictions, the images aside: its model, pipeline and checkpoint.

    Raises:
        ConfigError: the config is missing or broken.
        CheckpointError: the checkpoint is missing.
    """
    cfg = load_config(member.config)
    _fit_classes(cfg, member, config_path(member.config).stem)
    augmented = _augmented(cfg, member)
    parts = [cfg.model.to_dict(), cfg.tta_pipeline if augmented else cfg.test_dataloader.dataset.pipeline]
    path = trained_file(member.checkpoint)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    made = {
        "config": config_path(member.config).name,
        "config_sha256": hashlib.sha256(repr(parts).encode()).hexdigest(),
        "checkpoint_sha256": sha256(path),
        "test_time_augmentation": augmented,
        "backend": member.backend.type,
        "precision": _chosen_precision(member.backend.precision, _default_device()),
    }
    if member.backend.file is not None:
        if not Path(member.backend.file).is_file():
            raise CheckpointError(f"{member.backend.file}: no such file; tools/export.py makes it")
        made["exported_sha256"] = sha256(member.backend.file)
    return made


def select(found: Detections, member: Member) -> Detections:
    """The boxes that take part in the fusion: above the member's threshold, after its suppression, best first."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= member.score_threshold]
    if member.nms_iou_threshold is not None and len(order):
        boxes, scores, labels = (torch.from_numpy(a[order]) for a in (found.boxes, found.scores, found.labels))
        order = order[batched_nms(boxes, scores, labels, member.nms_iou_threshold).numpy()]
    return Detections(found.boxes[order], found.scores[order], found.labels[order])


def _exported(cfg: Config, member: Member, name: str, backend: Backend, content: bytes | None) -> nn.Module:
    """The detector on an exported network, if that is of this config and checkpoint."""
    if _augmented(cfg, member):
        raise ConfigError(f"member '{name}': test-time augmentation needs the backend 'torch'")
    source = backend.file if content is None else content
    metadata = read_metadata(source)
    made = fingerprint(replace(member, backend=Backend(), test_time_augmentation=False))
    for key in ("config_sha256", "checkpoint_sha256"):
        if metadata.get(key) != made[key]:
            what = key.removesuffix("_sha256")
            raise CheckpointError(f"{backend.file}: was exported from another {what} than member '{name}' has")
    if backend.precision not in exact_precisions(backend.type, metadata):
        raise ConfigError(
            f"member '{name}': {backend.type} in {backend.precision} moves the boxes of a two-stage detector too far; "
            "take precision 'float32', or the backend 'torch', which keeps the heads in float32"
        )
    init_default_scope(cfg.get("default_scope", "mmdet"))
    return ExportedDetector(MODELS.build(cfg.model), metadata, open_session(backend.type, source, backend.precision))


def _augmented(cfg: Config, member: Member) -> bool:
    wanted = member.test_time_augmentation
    augmented = bool(cfg.get("test_time_augmentation")) if wanted is None else wanted
    if augmented and not (cfg.get("tta_model") and cfg.get("tta_pipeline")):
        raise ConfigError(f"{member.config}: test_time_augmentation needs a tta_model and a tta_pipeline")
    return augmented


def _fit_classes(cfg: Config, member: Member, name: str) -> tuple[str, ...]:
    """The classes of a detector, after heads that follow the data set got their number.

    Raises:
        ConfigError: a head has another number.
    """
    found = _trained_classes(cfg, member)
    if not found:
        raise ConfigError(
            f"member '{name}': neither its checkpoint nor its config says which classes it finds, and the prepared "
            "folder that it follows is not here"
        )
    follow_checkpoint(cfg, found)
    for count in _class_counts(cfg.model):
        if count != len(found):
            names = f"'{found[0]}' alone" if len(found) == 1 else f"{len(found)}"
            raise ConfigError(f"member '{name}': a head of it has {count} classes, its data set {names}")
    return found


def _class_counts(part: Any) -> Iterator[int]:
    """``num_classes`` of every head of boxes in a model's config, cascades and wrapped detectors included."""
    if isinstance(part, list | tuple):
        for one in part:
            yield from _class_counts(one)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            heads = value if isinstance(value, list | tuple) else [value]
            if key.endswith(("bbox_head", "query_head")):
                yield from (one["num_classes"] for one in heads if isinstance(one, Mapping) and "num_classes" in one)
            yield from _class_counts(value)


def _for_decoded(pipeline: Sequence[ConfigDict]) -> tuple[bool, Compose]:
    """A test pipeline for images that come decoded, and whether it takes them grey."""
    grey, steps = False, []
    for step in pipeline:
        cls = TRANSFORMS.get(step.type)
        if cls is not None and issubclass(cls, LoadImageFromFile):
            grey = step.get("color_type", "color") in ("grayscale", "unchanged")
            steps.append({"type": "LoadImageFromNDArray", "to_float32": step.get("to_float32", False)})
        elif cls is None or not issubclass(cls, LoadAnnotations):
            steps.append(step)
    return grey, Compose(steps)


def _sample(index: int, one: Radiograph, grey: bool) -> dict[str, Any]:
    image = one.pixels if grey else cv2.cvtColor(one.pixels, cv2.COLOR_GRAY2BGR)
    return {"img": image, "img_id": index, "img_path": str(one.header.path)}


def _in_original(result: Any, one: Radiograph) -> Detections:
    """Boxes from pixels of the radiograph in memory to pixels of the original, cut to its edges."""
    instances = result.pred_instances.cpu()
    size = one.header.height, one.header.width
    scaled = rescaled(get_box_tensor(instances.bboxes).double().numpy(), one.pixels.shape, size)
    # judged in the precision that the boxes keep
    cut, kept = cut_to_image(scaled.astype(np.float32), size)
    boxes: NDArray = cut.astype(np.float32)
    return Detections(boxes[kept], instances.scores.float().numpy()[kept], instances.labels.numpy()[kept])
