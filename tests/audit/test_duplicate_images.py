import time

import cv2
import numpy as np
import pytest

from covidmm.audit.appearance import look_at
from covidmm.audit.checks import Level
from covidmm.audit.duplicate_images import Pair, check_duplicates, cropped_duplicates, find_pairs


def scene(seed):
    chance = np.random.default_rng(seed)
    layers = [cv2.resize(chance.normal(0, 1, (n, n)), (200, 240)) / n**0.5 for n in (4, 8, 16, 32)]
    mixed = sum(layers)
    return (255 * (mixed - mixed.min()) / np.ptp(mixed)).astype(np.uint8)


COPIES = {
    "cut": lambda image: image[4:-3, 5:],
    "cut, brighter, jpeg": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", np.clip(image[2:, 3:-3].astype(int) + 15, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0
    ),
    "smaller": lambda image: cv2.resize(image, (100, 120), interpolation=cv2.INTER_AREA),
    "the same": lambda image: image,
}


@pytest.mark.parametrize("change", COPIES)
def test_finds_altered_copies_and_nothing_else(change, tmp_path):
    scenes = [scene(seed) for seed in range(12)]
    paths = []
    for number, image in enumerate((*scenes, *map(COPIES[change], scenes))):
        paths.append(tmp_path / f"{number}.png")
        assert cv2.imwrite(str(paths[-1]), image)
    found = find_pairs([look_at(path) for path in paths], paths)
    assert found == [Pair(index, index + 12, change == "the same") for index in range(12)]


def test_pictures_without_structure_are_no_candidates():
    assert cropped_duplicates([np.full((64, 64), grey, np.uint8) for grey in (0, 0, 200)]) == []
    assert cropped_duplicates([]) == []


def test_three_thousand_thumbnails_take_seconds():
    # 30,000, a hundred times as many pairs, were measured by hand: docs/audit.md
    noise = np.random.default_rng(0).integers(0, 256, (3000, 64, 64), dtype=np.uint8)
    start = time.process_time()
    assert cropped_duplicates([*noise, noise[17]]) == [(17, 3000)]
    assert time.process_time() - start < 12


@pytest.mark.parametrize(
    ("first", "second", "level", "where"),
    [
        ({"split": "train"}, {"split": "test"}, Level.FAULT, "across splits"),
        ({"split": "train"}, {"split": "test", "study_id": "study1"}, Level.FAULT, "across splits"),
        ({"split": "train"}, {"split": "val", "dataset": "b"}, Level.FAULT, "across splits"),
        ({}, {"dataset": "b"}, Level.WARNING, "across data sets"),
        ({}, {}, Level.WARNING, "within a split"),
        ({}, {"study_id": "study1"}, Level.OK, None),
    ],
)
def test_where_a_pair_stands_decides(entry, first, second, level, where):
    check = check_duplicates([entry(1, **first), entry(2, **second)], [Pair(0, 1, False)])
    assert check.level is level
    assert check.numbers["where"] == ({where: 1} if where else {})
    assert len(check.tables[0].rows) == (where is not None)
