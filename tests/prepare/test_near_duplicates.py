import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidmm import radiograph
from covidmm.errors import DataError, RadiographError
from covidmm.prepare import near_duplicates
from covidmm.prepare.near_duplicates import Pair, find_pairs, thumbnail
from covidmm.utils.pool import WorkerCrashedError


def scene(seed):
    """A random picture with coarse and fine structure."""
    chance = np.random.default_rng(seed)
    layers = [cv2.resize(chance.normal(0, 1, (n, n)), (200, 240)) / n**0.5 for n in (4, 8, 16, 32)]
    mixed = sum(layers)
    return (255 * (mixed - mixed.min()) / np.ptp(mixed)).astype(np.uint8)


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


COPIES = {
    "the same": lambda image: image,
    "as jpeg": lambda image: jpeg(image, 40),
    "smaller": lambda image: cv2.resize(image, (100, 120), interpolation=cv2.INTER_AREA),
    "larger": lambda image: cv2.resize(image, (400, 480), interpolation=cv2.INTER_CUBIC),
    "squeezed": lambda image: cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "brighter": lambda image: np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 1.8).astype(np.uint8),
    "noisy": lambda image: np.clip(image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
    "marked": lambda image: cv2.putText(image.copy(), "L", (10, 40), 0, 0.8, 255, 2),
    "mirrored": lambda image: image[:, ::-1],
    "inverted": lambda image: 255 - image,
    "cut on two sides": lambda image: image[4:-3, 5:],
    "cut by 8 % on one side": lambda image: image[:, 16:],
    "cut by 8 %": lambda image: image[19:-19, 16:-16],
    "cut, brighter, jpeg": lambda image: jpeg(np.clip(image[2:, 3:-3].astype(int) + 15, 0, 255).astype(np.uint8), 60),
    "cut, mirrored, inverted, jpeg": lambda image: 255 - jpeg(image[12:-3, 9:, ...][:, ::-1], 60),
}


@pytest.fixture
def find(tmp_path):
    """Pairs among images (H, W), written as PNG."""

    def run(images):
        paths = [tmp_path / f"{number}.png" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            assert cv2.imwrite(str(path), np.ascontiguousarray(image))
        digests = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in images]
        return find_pairs(
            np.stack([thumbnail(np.ascontiguousarray(one)) for one in images]), digests, paths, progress=False
        )

    return run


@pytest.mark.parametrize("change", COPIES)
def test_finds_altered_copies_and_nothing_else(find, change):
    scenes = [scene(seed) for seed in range(12)]
    found = find([*scenes, *map(COPIES[change], scenes)])
    assert found == [Pair(index, index + 12, change == "the same") for index in range(12)]


def test_pictures_without_structure_match_only_their_equals(find):
    flat = [np.full((40, 40), grey, np.uint8) for grey in (0, 0, 128, 255)]
    assert find(flat) == [Pair(0, 1, True)]
    assert find(flat[2:3]) == []
    assert find_pairs(np.zeros((0, 48, 48), np.uint8), [], []) == []


def test_a_copy_of_one_of_several_equal_images_is_a_copy_of_all(find):
    one = scene(0)
    found = find([one, scene(1), one, 255 - one])
    assert found == [Pair(0, 2, True), Pair(0, 3, False), Pair(2, 3, False)]


def test_neither_order_nor_blocks_change_what_is_found(find, monkeypatch):
    changes = list(COPIES.values())
    images = [changes[number % len(changes)](scene(number % 7)) for number in range(30)]
    names = dict.fromkeys(find(images))
    expected = {(frozenset((pair.first, pair.second)), pair.exact) for pair in names}
    assert len(expected) > 30
    monkeypatch.setattr(near_duplicates, "_BLOCK", 7)
    order = np.random.default_rng(0).permutation(30)
    found = find([images[index] for index in order])
    assert {(frozenset((order[pair.first], order[pair.second])), pair.exact) for pair in found} == expected


@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity_is_the_correlation_of_cosines(mirrored):
    whole = (0.0, 0.0)
    thumbnails = np.stack([thumbnail(scene(seed)) for seed in range(8)])
    turned = thumbnails[:, :, ::-1] if mirrored else thumbnails
    one, other = (next(near_duplicates._describe(own, [(whole, whole)])) for own in (thumbnails, turned))
    assert one.even == pytest.approx(other.even, abs=1)
    assert one.odd == pytest.approx(-other.odd if mirrored else other.odd, abs=1)
    length = np.hypot(np.linalg.norm(one.even, axis=1), np.linalg.norm(one.odd, axis=1))
    assert length == pytest.approx(np.full(8, 4000), abs=10)


@pytest.mark.realdata
def test_knows_the_nih_pictures_in_the_rsna_set(realdata, make):
    """90 radiographs are in both sets: 1024 pixel JPEG of the one, 288 pixel PNG of the other."""
    source = make.provenance(realdata / "rsna-mini/provenance.csv")
    paths = sorted((realdata / "rsna-mini/stage_2_train_images").glob("*.dcm"))
    names = [("rsna", source[path.stem]) for path in paths]
    for path in sorted((realdata / "nih-mini/images").glob("*.png")):
        names.append(("nih", path.name))
        paths.append(path)
    thumbnails = np.stack([thumbnail(radiograph.read(path).pixels) for path in paths])
    pairs = find_pairs(thumbnails, [str(path) for path in paths], paths, progress=False)
    across = [(names[i], names[j]) for i, j, _ in pairs if names[i][0] != names[j][0]]
    assert sum(one[1] == other[1] for one, other in across) == 90
    strangers = [(one, other) for one, other in across if one[1].split("_")[0] != other[1].split("_")[0]]
    assert strangers == []


def test_several_processes_find_the_same(tmp_path):
    scenes = [scene(seed) for seed in range(4)]
    images = [*scenes, *(np.ascontiguousarray(image[4:-3, 5:]) for image in scenes)]
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path, image in zip(paths, images, strict=True):
        assert cv2.imwrite(str(path), image)
    thumbnails, digests = np.stack([thumbnail(image) for image in images]), [path.name for path in paths]
    alone = find_pairs(thumbnails, digests, paths, progress=False)
    assert alone == [Pair(index, index + 4, False) for index in range(4)]
    many = np.concatenate([thumbnails, np.zeros((near_duplicates._BLOCK, 48, 48), np.uint8)])
    names = [*digests, *(f"flat {number}" for number in range(near_duplicates._BLOCK))]
    shared = find_pairs(many, names, [*paths, *paths[:1] * near_duplicates._BLOCK], workers=2, progress=False)
    assert shared == alone
    paths[0].unlink()
    with pytest.raises(RadiographError, match=r"0\.png: no such file"):
        find_pairs(many, names, [*paths, *paths[:1] * near_duplicates._BLOCK], workers=2, progress=False)


def test_a_worker_that_died_is_one_line(monkeypatch):
    def dying(function, jobs, workers):
        yield from ((job, WorkerCrashedError("its process died")) for job in jobs)

    monkeypatch.setattr(near_duplicates, "run_each", dying)
    count = 2 * near_duplicates._BLOCK
    with pytest.raises(DataError, match=r"0\.png: comparing it and the next images failed: its process died"):
        find_pairs(
            np.zeros((count, 48, 48), np.uint8),
            [str(number) for number in range(count)],
            [Path(f"{number}.png") for number in range(count)],
            workers=2,
            progress=False,
        )
