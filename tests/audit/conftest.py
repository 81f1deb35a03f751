"""Prepared phantoms, and faults planted in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.phantom import write_phantoms
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.utils.boxes import corners


def annotations(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "annotations").glob("*.json")}


def store(folder: Path, splits: dict[str, dict]) -> None:
    for split, content in splits.items():
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


def first(content: dict, study_class: str) -> dict:
    return next(image for image in content["images"] if image["study_class"] == study_class)


def leak_a_study(folder: Path) -> str:
    """A test image becomes the second image of a study that trains."""
    splits = annotations(folder)
    train, test = first(splits["train"], "typical"), first(splits["test"], "typical")
    test["study_id"] = train["study_id"]
    store(folder, splits)
    return train["study_id"]


def copy_an_image(folder: Path) -> tuple[str, str]:
    """A negative test image becomes a training image: brighter, three pixels cut off on two sides, as JPEG."""
    splits = annotations(folder)
    train, test = first(splits["train"], "negative"), first(splits["test"], "negative")
    pixels = cv2.imread(str(folder / "images" / train["file_name"]), cv2.IMREAD_GRAYSCALE)
    pixels = np.clip(pixels[3:, :-3].astype(int) + 12, 0, 255).astype(np.uint8)
    pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)
    assert cv2.imwrite(str(folder / "images" / test["file_name"]), pixels)
    test["height"], test["width"] = pixels.shape
    store(folder, splits)
    return train["image_id"], test["image_id"]


def flip_a_label(folder: Path) -> str:
    """A study with boxes is called negative."""
    splits = annotations(folder)
    image = first(splits["train"], "typical")
    for other in splits["train"]["images"]:
        if other["study_id"] == image["study_id"]:
            other["study_class"] = "negative"
    store(folder, splits)
    return image["study_id"]


def burn_in_markers(folder: Path) -> None:
    """Every positive image says so in a corner."""
    for content in annotations(folder).values():
        for image in content["images"]:
            if image["study_class"] != "negative":
                path = folder / "images" / image["file_name"]
                pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                height, width = pixels.shape
                place = (int(0.03 * width), int(0.96 * height))
                cv2.putText(pixels, "BED", place, cv2.FONT_HERSHEY_SIMPLEX, width / 400, 255, 1, cv2.LINE_AA)
                assert cv2.imwrite(str(path), pixels)


def invert_positives(folder: Path) -> None:
    """The photometric interpretation of the original follows the class."""
    splits = annotations(folder)
    for content in splits.values():
        for image in content["images"]:
            image["photometric"] = "MONOCHROME2" if image["study_class"] == "negative" else "MONOCHROME1"
    store(folder, splits)


PLANTS = {
    "splits": leak_a_study,
    "duplicates": copy_an_image,
    "labels": flip_a_label,
    "markers": burn_in_markers,
    "headers": invert_positives,
}


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    """A prepared folder of 90 small phantom studies; not to be changed."""
    top = tmp_path_factory.mktemp("audit")
    write_phantoms(top / "raw", 90, seed=3, size=(160, 192), workers=1)
    prepare("siim", top / "raw", top / "clean", Options(workers=1, progress=False, max_size=192))
    return top / "clean"


@pytest.fixture
def planted(clean, tmp_path):
    """A function that copies the clean folder, plants faults, and returns the copy and what the plants return."""

    def plant(*names: str) -> tuple[Path, list]:
        folder = tmp_path / "planted"
        shutil.copytree(clean, folder)
        return folder, [PLANTS[name](folder) for name in names]

    return plant


@pytest.fixture(scope="session")
def plants() -> SimpleNamespace:
    return SimpleNamespace(all=PLANTS, annotations=annotations, store=store)


@pytest.fixture(scope="session")
def entry():
    """Makes one image of 100 x 80 pixels without a file, boxes x y width height."""

    def make(number=1, split="train", boxes=(), dataset="a", **given) -> AnnotatedImage:
        coco = {"id": number, "file_name": f"{number}.png", "original_width": 100, "original_height": 80, **given}
        return AnnotatedImage(
            path=Path("/data", dataset, "images", coco["file_name"]),
            image_id=f"image{number}",
            study_id=coco.get("study_id", f"study{number}"),
            boxes=corners(boxes),
            labels=np.zeros(len(boxes), np.int64),
            size=(80, 100),
            original_size=(coco["original_height"], coco["original_width"]),
            study_class=coco.get("study_class", "typical" if len(boxes) else "negative"),
            patient=coco.get("patient", f"patient{number}"),
            split=split,
            dataset=dataset,
            coco=coco,
        )

    return make
