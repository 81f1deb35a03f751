"""What ``prepare`` keeps on one side, and what ``audit`` then finds: the same pairs, none across splits."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from covidmm import radiograph
from covidmm.audit.full_audit import audit
from covidmm.phantom import write_phantoms
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

PER_KIND = 5


def cut(*shares):
    def change(image):
        height, width = image.shape
        left, right, top, bottom = shares
        return image[
            round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
        ]

    return change


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)


def windowed(image, low=0.1, high=0.9, gamma=1.0):
    low, high = np.quantile(image, (low, high))
    return (255 * np.clip((image - low) / (high - low), 0, 1) ** gamma).astype(np.uint8)


def scaled(across, down):
    def change(image):
        size = round(image.shape[1] * across), round(image.shape[0] * down)
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA if across < 1 else cv2.INTER_CUBIC)

    return change


def marked(image):
    width = image.shape[1]
    return cv2.putText(image.copy(), "R", (round(0.8 * width), width // 5), 0, width / 250, 255, 2, cv2.LINE_AA)


KINDS = {
    "cut by 2 %": cut(*[0.02] * 4),
    "cut by 4 %": cut(*[0.04] * 4),
    "cut by 8 %": cut(*[0.08] * 4),
    "cut unevenly": cut(0.08, 0.0, 0.03, 0.06),
    "mirrored": lambda image: image[:, ::-1],
    "inverted": lambda image: 255 - image,
    "windowed": windowed,
    "gamma": lambda image: windowed(image, 0, 1, 0.6),
    "smaller": scaled(0.5, 0.5),
    "larger": scaled(1.6, 1.6),
    "squeezed": scaled(0.75, 1.0),
    "jpeg": jpeg,
    "marked": marked,
    "cut, mirrored, inverted, jpeg": lambda image: 255 - jpeg(cut(0.01, 0.06, 0.08, 0.03)(image)[:, ::-1]),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory, make):
    """A raw folder of phantoms with one copy of each as another patient's study; image id of the copy -> original."""
    top = tmp_path_factory.mktemp("copies")
    raw = top / "raw"
    write_phantoms(raw, PER_KIND * len(KINDS), seed=11, size=(220, 280), workers=1)
    originals, images, studies = {}, [], []
    for number, study in enumerate(sorted((raw / "train").iterdir())):
        path = min(study.rglob("*.dcm"))
        change = list(KINDS.values())[number % len(KINDS)]
        pixels = np.ascontiguousarray(change(radiograph.read(path).pixels))
        make.dicom(
            raw / f"train/copy{number}/series/copied{number}.dcm",
            pixels.astype(np.uint16) * 16,
            f"copy{number}",
            f"other{number}",
        )
        images.append(make.siim_row(f"copied{number}", f"copy{number}", []))
        studies.append([f"copy{number}_study", 1, 0, 0, 0])
        originals[f"copied{number}"] = path.stem
    for name, rows in (("train_image_level.csv", images), ("train_study_level.csv", studies)):
        with (raw / name).open("a", newline="") as file:
            csv.writer(file).writerows(rows)
    return raw, originals


@pytest.mark.e2e
def test_audit_finds_the_pairs_that_prepare_kept_together(copied, tmp_path):
    raw, originals = copied
    summary = prepare("siim", raw, tmp_path / "out", Options(workers=1, progress=False, max_size=256))
    assert summary.skipped.total == 0
    checks = audit([tmp_path / "out"], tmp_path / "audit", progress=False)
    (check,) = [one for one in checks if one.name == "duplicates"]
    rows = check.tables[0].rows
    assert {row[0] for row in rows} == {"within a split"}
    # every kind is found, and no two patients are joined
    assert {frozenset((row[5], row[9])) for row in rows} == {frozenset(pair) for pair in originals.items()}
    assert summary.near_duplicates == len(originals)
