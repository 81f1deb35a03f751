"""What a detector, or an ensemble, predicted for a folder, kept in files that any COCO tool reads.

``NAME.json`` is a COCO results list, boxes x y width height in pixels of the original images, with the results of
one image on each line. ``NAME.header.json`` says what they were made from and which images they cover; it is
written last, so it stands for a file that is whole. While a detector is at work its lines gather in
``NAME.part``, from which a killed run resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.utils.boxes import corners, xywh
from covidmm.utils.fileio import json_bytes, json_value, whole_file, write_bytes
from covidmm.utils.journal import Journal

#: How far, in pixels, a box may reach over the edge of its image before the file is taken to be wrong.
TOLERANCE = 1.0


class ImageEntry(NamedTuple):
    """One image of a predictions file. Its integer id is its place in the list, from 1.

    ``error`` says why nothing was predicted, ``refused`` that the image is of a kind which the models are not made for,
    ``notes`` what was ignored, replaced or guessed when it was read.
    """

    image_id: str
    study_id: str
    height: int
    width: int
    error: str | None = None
    refused: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> ImageEntry:
        """What ``_asdict`` gave, through JSON.

        Raises:
            TypeError: it is something else.
        """
        return cls(**{**content, "notes": tuple(content.get("notes", ()))})


@dataclass(frozen=True)
class Predictions:
    """A whole predictions file; boxes are read when they are asked for.

    Attributes:
        path: the COCO results list.
        fingerprint: what decided the predictions: hashes of model, checkpoint and data.
        images: in the order of the file.
    """

    path: Path
    fingerprint: Mapping[str, Any]
    images: Sequence[ImageEntry]

    def __iter__(self) -> Iterator[tuple[ImageEntry, Detections]]:
        """Each image with its boxes, in constant memory.

        Raises:
            DataError: a result of an unknown image or out of order, a value that is not finite, a score outside
                0..1, or a box outside its image.
        """
        results = _results_by_image(self.path)
        number, found = next(results, (None, []))
        for index, image in enumerate(self.images, start=1):
            mine: list[Mapping[str, Any]] = []
            if number == index:
                mine = found
                number, found = next(results, (None, []))
            yield image, _detections(self.path, image, mine)
        if number is not None:
            raise DataError(f"{self.path}: image_id {number} is unknown to its header, occurs twice or is out of order")


def read_predictions(folder: Path, name: str) -> Predictions | None:
    """The predictions file of that name, None where there is no whole one.

    Raises:
        DataError: it is damaged.
    """
    header = folder / f"{name}.header.json"
    path = folder / f"{name}.json"
    try:
        content = json_value(header.read_text())
        images = [ImageEntry.of_json(image) for image in content["images"]]
        seen: set[str] = set()
        for image in images:
            if image.image_id in seen:
                raise DataError(f"{header}: image '{image.image_id}' occurs twice")
            seen.add(image.image_id)
        fingerprint = dict(content["made_from"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{header}: is no header of predictions ({error!r}); remove it to predict again") from error
    if not path.is_file():
        raise DataError(f"{path}: is missing, though {header.name} is there; remove that to predict again")
    return Predictions(path, fingerprint, images)


class PredictionsWriter(Journal):
    """Gathers a detector's predictions for one folder and makes its two files of them.

    Args:
        folder: where the files go.
        name: of the detector or the ensemble.
        fingerprint: as :class:`covidmm.utils.journal.Journal`.
        resume: as :class:`covidmm.utils.journal.Journal`.
    """

    def __init__(self, folder: Path, name: str, fingerprint: Mapping[str, Any], resume: bool = True) -> None:
        path = folder / f"{name}.part"
        super().__init__(path, fingerprint, resume, busy=f"{path}: another run is writing these predictions")
        self._name = name

    def add(self, batch: Sequence[tuple[ImageEntry, Detections]]) -> None:
        """Add the boxes of some images."""
        first = self.done + 1
        self.append([[image._asdict(), _results(number, found)] for number, (image, found) in enumerate(batch, first)])

    def finish(self) -> Predictions:
        """Make the file whole, its header last."""
        path = self.path.with_name(f"{self._name}.json")
        header = self.path.with_name(f"{self._name}.header.json")
        images = []
        with whole_file(path) as file:
            separator = b"[\n"
            for image, results in self.items():
                images.append(ImageEntry.of_json(image))
                if results:
                    file.write(separator + json_bytes(results).strip()[1:-1])
                    separator = b",\n"
            file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
            header.unlink(missing_ok=True)  # until the new one is there, the file stands for nothing
        content = {"made_from": self.fingerprint, "images": [image._asdict() for image in images]}
        write_bytes(header, json_bytes(content))
        self.remove()
        return Predictions(path, self.fingerprint, images)


def _results(number: int, found: Detections) -> list[dict[str, Any]]:
    return [
        {
            "image_id": number,
            "category_id": int(label) + 1,
            "bbox": [round(value, 3) for value in box],
            # the shortest decimal of a float32, so that reading gives the same score
            "score": float(str(score)),
        }
        for box, score, label in zip(xywh(found.boxes).tolist(), found.scores, found.labels, strict=True)
    ]


def _results_by_image(path: Path) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """Image number and results, a line at a time."""
    text = b""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip().rstrip(b",")
            if text in (b"[", b"]", b"[]"):
                continue
            try:
                results = json_value(b"[" + text + b"]")
                images = {result["image_id"] for result in results}
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{path}: line {number} is damaged; remove the file to predict again") from error
            if len(images) != 1:
                raise DataError(f"{path}: line {number} holds the results of {len(images)} images, expected one")
            yield images.pop(), results
    if not text.endswith(b"]"):
        raise DataError(f"{path}: ends in the middle; remove the file to predict again")


def _detections(path: Path, image: ImageEntry, results: Sequence[Mapping[str, Any]]) -> Detections:
    try:
        found = Detections(
            corners([result["bbox"] for result in results]),
            np.array([result["score"] for result in results], np.float32),
            np.array([result["category_id"] - 1 for result in results], np.int64),
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"{path}: image '{image.image_id}': {' '.join(str(error).split())}") from error
    limits = np.array([image.width, image.height, image.width, image.height])
    outside = (found.boxes < -TOLERANCE) | (found.boxes > limits + TOLERANCE)
    if outside.any():
        box = found.boxes[outside.any(1)][0].tolist()
        raise DataError(f"{path}: image '{image.image_id}': box {box} outside {image.width} x {image.height} pixels")
    return found
