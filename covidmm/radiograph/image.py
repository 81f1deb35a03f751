"""A radiograph in display grey, and the form of errors about one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from covidmm.errors import RadiographError
from covidmm.radiograph.header import Header

#: No radiograph has more pixels, times samples per pixel; a header that declares more is a mistake or an attack.
#: Chosen here: a film of 35 cm x 43 cm scanned at 50 micrometres has less than half of it.
MAX_PIXELS = 2**27


@dataclass(frozen=True)
class Radiograph:
    """A radiograph in display grey.

    ``pixels`` is (height, width) uint8, read-only, with air black. ``notes`` lists what was left out or changed:
    further frames, a window that was ignored, excess bytes.
    """

    header: Header
    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    def shrunk(self, max_size: int) -> Radiograph:
        """The same with a longer side of at most ``max_size`` pixels; its header keeps the original's size."""
        pixels = resize_longer(self.pixels, max_size)
        pixels.setflags(write=False)
        return replace(self, pixels=pixels)


def resize_longer(pixels: NDArray[np.uint8], max_size: int) -> NDArray[np.uint8]:
    """Shrink (H, W) pixels to a longer side of at most ``max_size``, keeping the aspect; never enlarge."""
    height, width = pixels.shape
    scale = max_size / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def require_pixels(height: int, width: int, samples: int) -> None:
    """Refuse an image without pixels, or with more than are allowed, before memory is taken.

    Raises:
        ValueError: it is one.
    """
    if height < 1 or width < 1:
        raise ValueError(f"declares an image of {height} rows and {width} columns")
    if height * width * samples > MAX_PIXELS:
        shown = f"{height} x {width} pixels" + f" of {samples} samples" * (samples > 1)
        raise ValueError(f"declares {shown}, more than the {MAX_PIXELS:,} that are allowed")


@contextmanager
def one_line_errors(path: Path | str) -> Iterator[None]:
    """Give every fault of a file the form ``path: cause``."""
    try:
        yield
    except FileNotFoundError as error:
        raise RadiographError(f"{path}: no such file") from error
    except PermissionError as error:
        raise RadiographError(f"{path}: may not be read") from error
    except UnidentifiedImageError as error:
        raise RadiographError(f"{path}: damaged picture") from error
    except MemoryError as error:
        raise RadiographError(f"{path}: does not fit into memory") from error
    except RecursionError as error:
        raise RadiographError(f"{path}: sequences inside sequences, deeper than any radiograph's") from error
    except Exception as error:  # decoders of foreign bytes raise anything
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        cause = " ".join(text.split()) or type(error).__name__
        raise RadiographError(f"{path}: {cause[:300]}") from error
