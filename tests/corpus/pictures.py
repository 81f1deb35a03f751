"""Bad PNG, JPEG and TIFF files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.corpus.entry import Entry
from tests.corpus.valid import dataset, picture, saved, smooth, valid_files, zeros


def picture_entries() -> Iterator[Entry]:
    """All of them."""
    for name in ("grey.png", "deep.png", "grey.jpg", "progressive.jpg", "grey.tif", "deep.tif", "deflated.tif"):
        content = valid_files()[name]
        stem, suffix = name.split(".")
        for percent in (3, 20, 50, 95):
            yield Entry(f"cut_{stem}_{suffix}_{percent:02}.{suffix}", content[: len(content) * percent // 100])
        rng = np.random.default_rng(2)
        damaged = bytearray(content)
        for place in rng.integers(len(content) // 2, len(content), 30):
            damaged[place] = rng.integers(256)
        yield Entry(f"damaged_{stem}_{suffix}.{suffix}", bytes(damaged))
    for suffix, magic in {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff\xe0", "tif": b"II*\x00"}.items():
        yield Entry(f"only_magic_{suffix}.{suffix}", magic)
        yield Entry(f"junk_{suffix}.{suffix}", magic + b"\x5a" * 500)
    grey = smooth(255, np.uint8)
    yield Entry("png_called.dcm", picture(grey, "PNG"))
    yield Entry("dicom_called.png", saved(dataset("dicom_called.png")))
    yield Entry("gif_called.png", picture(grey, "GIF"))
    yield Entry("one_bit.png", picture(grey > 128, "PNG"))
    yield Entry("palette.png", _palette())
    yield Entry("transparent.png", picture(np.stack([grey] * 4, -1), "PNG"))
    yield Entry("one_pixel.png", picture(grey[:1, :1], "PNG"))
    yield Entry("one_row.png", picture(np.repeat(grey[:1], 2, 1), "PNG"))
    yield Entry("constant.png", picture(np.zeros_like(smooth()), "PNG"))
    yield Entry("wrong_checksum.png", _chunks((b"IHDR", _ihdr(8, 8)), wrong=1))
    yield Entry("zero_size_png.png", _chunks((b"IHDR", _ihdr(0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")))
    yield Entry("no_data.png", _chunks((b"IHDR", _ihdr(8, 8)), (b"IEND", b"")))
    yield Entry(
        "huge_png.png", _chunks((b"IHDR", _ihdr(65535, 65535)), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b""))
    )
    yield Entry("bomb.png", png_bomb(6_000, 16))
    yield Entry("text_bomb.png", _text_bomb())
    yield Entry("bits_3.png", _chunks((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 3, 0, 0, 0, 0)), (b"IEND", b"")))
    yield Entry("cmyk.jpg", _cmyk())
    yield Entry("huge_jpg.jpg", _jpeg_of_size(65500, 65500))
    yield Entry("zero_size_jpg.jpg", _jpeg_of_size(0, 0))
    yield Entry("other_size.jpg", _jpeg_of_size(640, 560))
    values = smooth(1, np.float32)
    values[3] = np.nan
    yield Entry("nan.tif", picture(values, "TIFF"))
    yield Entry("only_nan.tif", picture(np.full_like(values, np.nan), "TIFF"))
    yield Entry("int32.tif", picture(smooth(2**30, np.int32), "TIFF"))
    yield Entry("pages.tif", _pages())
    yield Entry("loop.tif", _looping())
    yield Entry("huge_tif.tif", _tiff({256: 65535, 257: 65535}))
    yield Entry("zero_size_tif.tif", _tiff({256: 0, 257: 0}))
    yield Entry("bits_7.tif", _tiff({258: 7}))
    yield Entry("samples_99.tif", _tiff({277: 99}))
    yield Entry("compression_999.tif", _tiff({259: 999}))
    yield Entry("strip_outside.tif", _tiff({273: 0x7FFFFFF0}))
    yield Entry("strip_longer.tif", _tiff({279: 0x7FFFFFF0}))


def _chunks(*chunks: tuple[bytes, bytes], wrong: int = 0) -> bytes:
    """A PNG file of these chunks; ``wrong`` is added to the checksums."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)
    return content


def _ihdr(width: int, height: int, bits: int = 8) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)


def png_bomb(side: int, bits: int) -> bytes:
    """A square of equal pixels: 70 kB that stand for 72 MB where it has 6,000 pixels of 16 bits a side."""
    size = side * (1 + side * bits // 8)
    packer = zlib.compressobj(9)
    rows = packer.compress(bytes(size % 2**20)) + packer.flush(zlib.Z_FULL_FLUSH) + zeros(size // 2**20)
    rows += b"\x03\0" + struct.pack(">I", (size % 65521) << 16 | 1)  # the last block, and Adler-32 of zeros
    return _chunks((b"IHDR", _ihdr(side, side, bits)), (b"IDAT", rows), (b"IEND", b""))


def _text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(100 << 20), 9)
    rows = zlib.compress(bytes(9 * 8))
    return _chunks((b"IHDR", _ihdr(8, 8)), (b"zTXt", text), (b"IDAT", rows), (b"IEND", b""))


def _palette() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(smooth(255, np.uint8)).convert("P").save(file, "PNG")
    return file.getvalue()


def _cmyk() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(smooth(255, np.uint8)).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def _jpeg_of_size(height: int, width: int) -> bytes:
    content = valid_files()["grey.jpg"]
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def _pages() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    pages = [Image.fromarray(smooth(top, np.uint8)) for top in (255, 100)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def _tiff(changes: dict[int, int], following: int = 0) -> bytes:
    """An uncompressed little-endian TIFF by hand: 12 bytes per directory entry (TIFF 6.0, section 2)."""
    pixels = smooth(255, np.uint8)
    height, width = pixels.shape
    fields = {
        256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: pixels.size,
    } | changes  # fmt: skip
    start = 8 + pixels.size
    directory = struct.pack("<H", len(fields))
    for tag, value in fields.items():
        directory += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", start) + pixels.tobytes() + directory + struct.pack("<I", following)


def _looping() -> bytes:
    """Its second page is its first."""
    return _tiff({}, 8 + smooth(255, np.uint8).size)
