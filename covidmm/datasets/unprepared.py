"""Data sets that nobody prepared, for those that only look at them: audit and report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from covidmm.datasets.prepared_folder import MANIFEST, read_prepared
from covidmm.errors import DataError
from covidmm.prepare.layouts import layout_module
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


@contextmanager
def prepared_folders(folders: Sequence[Path], workers: int | None = None) -> Iterator[list[Path]]:
    """Each folder as it is where it is prepared; of a folder of COCO files a prepared copy, which is gone afterwards.

    Nothing is written into the folders. Splits are those that the names of the COCO files give; without them all images
    are one split, since nobody divided them. A line says what was read how, and how much was skipped.

    Args:
        folders: prepared ones, or such as ``tools/prepare.py coco`` reads.
        workers: processes that convert images; by default one per core.

    Raises:
        DataError: a folder is neither.
    """
    with tempfile.TemporaryDirectory(prefix="covidmm-") as temporary:
        yield [_prepared(folder, Path(temporary, str(place)), workers) for place, folder in enumerate(folders)]


def _prepared(folder: Path, temporary: Path, workers: int | None) -> Path:
    if (folder / MANIFEST).is_file():
        return folder
    try:
        read_prepared(folder)
        return folder
    except DataError as error:
        try:
            samples = layout_module("coco").read_folder(folder, Options()).samples.values()
        except DataError as other:
            raise DataError(f"{error}; nor is it a COCO data set: {other}") from error
    given = any(sample.official for sample in samples)
    options = Options(
        split="auto" if given else "train", progress=False, **({} if workers is None else {"workers": workers})
    )
    copy = temporary / folder.resolve().name
    temporary.mkdir()
    summary = prepare("coco", folder, copy, options)
    splits = "with the splits that its files are named after" if given else "all in one split: it names none"
    print(f"{folder}: is not prepared; its COCO files are read as `prepare coco` does, {splits}")
    if summary.skipped.total:
        print(f"note: {summary.skipped.total} files or labels were skipped, as `prepare coco` would list them")
    return copy
