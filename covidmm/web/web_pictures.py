"""Pictures that the server makes: previews, annotated radiographs, and a phantom to try the application with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covidmm.findings import OPACITY, Detections
from covidmm.phantom.dicom import encode
from covidmm.phantom.study import plan_study, render
from covidmm.radiograph import resize_longer
from covidmm.reports.drawing import with_heat
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.looks import CORNERS, FOUND, member_look, of_class
from covidmm.reports.pictures import picture_of, png
from covidmm.web import schemas
from covidmm.web.service import ENSEMBLE

#: Longer side of a preview, pixels; finer than any screen that it is looked at on. Chosen here.
PREVIEW_SIZE = 2048
# An annotated picture is at least so large, so that scores can be read on a small radiograph.
_LEAST_SIZE = 900
# Of the sample: chosen here for a picture with opacities that is quick to draw.
_SEED, _INDEX, _SIZE = 7, 1, (1024, 1024)


@dataclass(frozen=True)
class View:
    """What an annotated picture shows.

    Attributes:
        threshold: the least score of a box.
        fused: whether the boxes of the choice are drawn.
        members: the detectors whose own boxes are drawn, too.
        level: the grey value that becomes middle grey.
        width: how many grey values lie between black and white.
        invert: whether black and white are exchanged.
        hidden: classes whose boxes are not drawn.
    """

    threshold: float = 0.0
    fused: bool = True
    members: Sequence[str] = ()
    level: float = 128
    width: float = 255
    invert: bool = False
    hidden: Sequence[str] = ()


def preview(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W) grey values as a PNG, fast rather than small: it goes to the same machine or a near one."""
    return png(Image.fromarray(resize_longer(pixels, PREVIEW_SIZE)), compress_level=1)


def annotated(
    prediction: schemas.Prediction, pixels: NDArray[np.uint8], view: View, classes: Sequence[str] = OPACITY
) -> bytes:
    """The first image of a prediction with its boxes, as a PNG of pixels alone.

    Args:
        prediction: what was found; its attention map, if there is one, is drawn too.
        pixels: (H, W) grey values of the radiograph, not larger than a preview.
        view: what is shown.
        classes: of the ensemble, in its order, which decides their colours.
    """
    image = prediction.images[0]
    shown = np.clip(((np.arange(256) - view.level) / view.width + 0.5) * 255, 0, 255).round().astype(np.uint8)
    pixels = (255 - shown if view.invert else shown)[pixels]
    if image.attention is not None:
        pixels = with_heat(pixels, np.array(image.attention.rows), image.attention.region)
    members = image.members if prediction.detector == ENSEMBLE else {}
    drawn = DrawnImage(
        name=f"covidmm {prediction.version}, {prediction.detector}, confidence from {view.threshold:.2f}",
        size=(image.height, image.width),
        found=_detections(image.fused if view.fused else (), view, classes),
        members={
            name: _detections(boxes, view, classes) if name in view.members else None for name, boxes in members.items()
        },
        classes=classes,
    )
    return png(picture_of(drawn, pixels, max(_LEAST_SIZE, *pixels.shape[:2]), member_scores=True))


def colours(detectors: Sequence[str]) -> Mapping[str, schemas.BoxColours]:
    """The colours of boxes: of the choice, called ``ensemble``, and of each detector beside it."""
    looks = {ENSEMBLE: FOUND} | {name: member_look(number) for number, name in enumerate(detectors)}
    return {name: schemas.BoxColours(line=look.colour, text=look.ink) for name, look in looks.items()}


def class_looks(classes: Sequence[str]) -> list[schemas.ClassLook]:
    """The looks of classes, in their order; none where there is one class, whose boxes have :func:`colours`."""
    looks = [of_class(FOUND, label) for label in range(len(classes))] if len(classes) > 1 else []
    return [
        schemas.ClassLook(name=name, line=look.colour, text=look.ink, corners=list(CORNERS[look.corners]))
        for name, look in zip(classes, looks, strict=False)
    ]


@cache
def sample_file() -> bytes:
    """A phantom radiograph as a DICOM file, drawn once; it is of no patient."""
    study = plan_study(_SEED, _INDEX, _SIZE)
    return encode(study, 0, render(study, 0).grey)


def _detections(boxes: Sequence[schemas.Box], view: View, classes: Sequence[str]) -> Detections:
    kept = [box for box in boxes if box.score >= view.threshold and box.name not in view.hidden]
    corners = [[box.x, box.y, box.x + box.width, box.y + box.height] for box in kept]
    labels = [classes.index(box.name) for box in kept]
    return Detections(np.array(corners), np.array([box.score for box in kept]), np.array(labels, np.int64))
