"""Measures how much of a classifier's Grad-CAM lies inside the lungs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmengine.dataset import Compose
from numpy.typing import NDArray
from torch import Tensor

from covidmm import radiograph
from covidmm.audit.checks import Check, Level, Table
from covidmm.audit.lungs import SIDE, find_lungs
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.errors import ConfigError
from covidmm.evaluation.bootstrap import draw_images
from covidmm.models.classifier import RadiographClassifier
from covidmm.models.grad_cam import GradCam

SPLIT = "test"
#: With fewer outlines than this there is no typical one to lend to the other images.
MIN_OUTLINES = 10


def check_attention(entries: Sequence[AnnotatedImage], config: str, checkpoint: str, seed: int = 0) -> Check:
    """Compare the share of Grad-CAM inside the lungs with the share of the picture that the lungs take.

    Args:
        entries: readable images; those of the test split are looked at.
        config: of a classifier.
        checkpoint: its file, or its work dir.
        seed: draws the resamples.

    Raises:
        ConfigError: the config is of no classifier.
        CheckpointError: the checkpoint cannot be read or does not fit.
    """
    explain, inputs_of, classes = _classifier(config, checkpoint)
    chosen = [entry for entry in entries if entry.split == SPLIT]
    images = [radiograph.read(entry.path).pixels for entry in chosen]
    fields = [find_lungs(image) for image in images]
    known = [field for field in fields if field is not None]
    paragraph = (
        "Grad-CAM of the likeliest class of each test image was summed inside a rough outline of the lungs, made from "
        "grey levels. A network that looks anywhere puts as much there as the outline takes of what it sees. Grad-CAM "
        "is coarse and shows only what the last stage adds up; mass inside the lungs is no proof that the disease was "
        "seen, mass outside is a reason to look at the pictures. "
    )
    if len(known) < MIN_OUTLINES:
        summary = f"lungs outlined on {len(known)} of {len(chosen)} test images: too few to judge"
        return Check("attention", Level.OK, summary, paragraph, {"images": len(chosen), "outlines": len(known)})
    typical = np.mean(known, axis=0) > 0.5
    rows, studies = [], []
    for entry, image, field in zip(chosen, images, fields, strict=True):
        scores, heat = explain(inputs_of(image))
        seen = inputs_of(_stretch(typical if field is None else field, image.shape)).numpy()[0] > 127
        if heat.sum() > 0 and seen.any():
            outline = "typical" if field is None else "own"
            label = classes[int(scores.argmax())]
            rows.append((entry.name, label, outline, round(share_inside(heat, seen), 4), round(float(seen.mean()), 4)))
            studies.append(entry.study_id)
    return _judge(rows, studies, len(chosen), paragraph, seed)


def share_inside(heat: NDArray[np.floating], region: NDArray[np.bool_]) -> float:
    """Share of the sum of ``heat``, (h, w) stretched to the size of ``region``, that lies in ``region``."""
    large = cv2.resize(heat, region.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return float(large[region].sum() / large.sum())


def _judge(rows: list[tuple], studies: list[str], images: int, paragraph: str, seed: int) -> Check:
    if not rows:
        return Check("attention", Level.OK, "no image has any Grad-CAM", paragraph, {"images": images})
    inside, area = (np.array([row[column] for row in rows]) for column in (3, 4))
    _, owner = np.unique(studies, return_inverse=True)
    times = draw_images(owner, seed)
    differences = (times @ (inside - area)) / times.sum(1)
    low, high = np.quantile(differences, (0.025, 0.975))
    level = Level.WARNING if high < 0 else Level.OK
    summary = (
        f"{inside.mean():.2f} of Grad-CAM lies in the lungs, which take {area.mean():.2f} of the picture "
        f"(difference {low:+.2f} to {high:+.2f}), {len(rows)} images"
    )
    if level > Level.OK:
        paragraph += "This network looks at the lungs less than chance would: look for what it sees beside them. "
    elif low <= 0:
        paragraph += "That it looks at the lungs at all is not shown here. "
    own = sum(row[2] == "own" for row in rows)
    paragraph += f"{len(rows) - own} of {len(rows)} images had no outline of their own and got the typical one."
    numbers = {
        "images": images,
        "used": len(rows),
        "outlines": own,
        "inside": float(inside.mean()),
        "area": float(area.mean()),
        "low": float(low),
        "high": float(high),
    }
    table = Table("attention", ("image", "class", "outline", "inside", "area"), rows)
    return Check("attention", level, summary, paragraph, numbers, (table,))


def _classifier(config: str, checkpoint: str) -> tuple[Callable, Callable[[NDArray], Tensor], Sequence[str]]:
    cfg = load_config(config)
    model, _ = load_trained(cfg, trained_file(checkpoint))
    if not isinstance(model, RadiographClassifier):
        raise ConfigError(f"{config}: Grad-CAM needs a classifier, this is a {type(model).__name__}")
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])
    classes = cfg.test_evaluator.classes

    def inputs_of(pixels: NDArray[np.uint8]) -> Tensor:
        shape = pixels.shape[:2]
        sample = {"img": cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), "img_shape": shape, "ori_shape": shape}
        return pipeline({**sample, "gt_label": np.zeros(len(classes))})["inputs"]

    return GradCam(model), inputs_of, classes


def _stretch(field: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The (128, 128) outline as a picture that goes through the network's own pipeline."""
    assert field.shape == (SIDE, SIDE)
    return cv2.resize(field.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_NEAREST)
