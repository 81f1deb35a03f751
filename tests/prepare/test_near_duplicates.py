import time
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from covidmm import radiograph
from covidmm.prepare import near_duplicates as duplicates
from covidmm.prepare.near_duplicates import hashes, near_duplicates, thumbnail


def scene(seed):
    """A random picture with coarse and fine structure."""
    chance = np.random.default_rng(seed)
    layers = [cv2.resize(chance.normal(0, 1, (n, n)), (200, 240)) / n**0.5 for n in (4, 8, 16, 32)]
    mixed = sum(layers)
    return (255 * (mixed - mixed.min()) / np.ptp(mixed)).astype(np.uint8)


COPIES = {
    "as jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0),
    "smaller": lambda image: cv2.resize(image, (100, 120), interpolation=cv2.INTER_AREA),
    "squeezed": lambda image: cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "brighter": lambda image: np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
    "noisy": lambda image: np.clip(image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
    "marked": lambda image: cv2.putText(image.copy(), "L", (10, 40), 0, 0.8, 255, 2),
}


@pytest.mark.parametrize("change", COPIES)
def test_finds_altered_copies_and_nothing_else(change):
    scenes = [scene(seed) for seed in range(40)]
    thumbnails = [thumbnail(image) for image in (*scenes, *map(COPIES[change], scenes))]
    assert near_duplicates(thumbnails) == [(index, index + 40) for index in range(40)]


def test_pictures_without_structure_match_nothing():
    assert near_duplicates([np.full((32, 32), grey, np.uint8) for grey in (0, 0, 128, 255)]) == []
    assert near_duplicates([]) == near_duplicates([np.zeros((32, 32), np.uint8)]) == []


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_the_phash_agrees_with_scipy(seed):
    picture = thumbnail(scene(seed))
    low = dctn(picture.astype(np.float64), norm="ortho")[:9, :9].ravel()[1:65]
    assert (np.unpackbits(hashes(picture[None])[0])[:64] == (low > np.median(low))).mean() > 0.96


def test_agrees_with_comparing_pair_by_pair(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)  # several blocks
    monkeypatch.setattr(duplicates, "MIN_CORRELATION", -1)
    thumbnails = [thumbnail(scene(seed // 3)) for seed in range(40)]
    codes = np.unpackbits(hashes(np.stack(thumbnails)), axis=1)
    expected = [
        (one, other)
        for one, other in combinations(range(40), 2)
        if np.count_nonzero(codes[one] != codes[other]) <= duplicates.MAX_BITS
    ]
    assert sorted(near_duplicates(thumbnails)) == expected
    assert len(expected) >= 39


def test_four_thousand_images_take_seconds():
    thumbnails = list(np.random.default_rng(0).integers(0, 256, (4000, 32, 32), dtype=np.uint8))
    thumbnails.append(thumbnails[17])
    start = time.process_time()
    assert near_duplicates(thumbnails) == [(17, 4000)]
    assert time.process_time() - start < 10


@pytest.mark.realdata
def test_knows_the_nih_pictures_in_the_rsna_set(realdata, make):
    """90 radiographs are in both sets: 1024 pixel JPEG of the one, 288 pixel PNG of the other."""
    source = make.provenance(realdata / "rsna-mini/provenance.csv")
    names, thumbnails = [], []
    for path in sorted((realdata / "rsna-mini/stage_2_train_images").glob("*.dcm")):
        names.append(("rsna", source[path.stem]))
        thumbnails.append(thumbnail(radiograph.read(path).pixels))
    for path in sorted((realdata / "nih-mini/images").glob("*.png")):
        names.append(("nih", path.name))
        thumbnails.append(thumbnail(radiograph.read(path).pixels))
    across = [(names[i], names[j]) for i, j in near_duplicates(thumbnails) if names[i][0] != names[j][0]]
    assert sum(one[1] == other[1] for one, other in across) == 90
    strangers = [(one, other) for one, other in across if one[1].split("_")[0] != other[1].split("_")[0]]
    assert strangers == []
