import cv2
import numpy as np

from covidmm.audit.appearance import BORDER, border_statistics, look_at, look_at_all


def test_the_hash_is_of_pixels_and_not_of_their_encoding(tmp_path, make):
    pixels = (make.picture(1, 120, 100) >> 4).astype(np.uint8)
    for name, level in (("a", 0), ("b", 9)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, level])
    one, other = look_at(tmp_path / "a.png"), look_at(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert one.sha256 == other.sha256
    assert one.shape == (120, 100)
    assert one.thumbnail.shape == (48, 48)


def test_the_border_sees_nothing_of_the_middle(make):
    pixels = (make.picture(2, 200, 160) >> 4).astype(np.uint8)
    changed = pixels.copy()
    margin = [round(2 * BORDER * length) + 1 for length in pixels.shape]
    changed[margin[0] : -margin[0], margin[1] : -margin[1]] = 255
    assert np.array_equal(border_statistics(pixels), border_statistics(changed))
    changed[0, 0] ^= 128
    assert not np.array_equal(border_statistics(pixels), border_statistics(changed))
    assert np.isfinite(border_statistics(np.zeros((16, 16), np.uint8))).all()


def test_unreadable_images_come_back_with_their_cause(tmp_path, make):
    good = (make.picture(1) >> 4).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "good.png"), good)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:90])
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [tmp_path / f"{name}.png" for name in ("good", "cut", "empty", "gone")]
    looks, failed = look_at_all(paths, progress=False)
    assert list(looks) == paths[:1]
    assert sorted(failed) == sorted(paths[1:])
    assert failed[paths[3]] == "no such file"
