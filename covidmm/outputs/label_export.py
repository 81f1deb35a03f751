"""Labels of a prepared folder in other programs' layouts: ``tools/prepare.py export``.

A layout is a function that fills a new folder and is named in :data:`LAYOUTS`; everything else, such as that nothing is
half-written and nothing of others is touched, is done here for all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from covidmm.datasets.prepared_folder import PreparedFolder, read_prepared
from covidmm.errors import DataError
from covidmm.outputs.coco_labels import write_coco
from covidmm.outputs.table_labels import write_table
from covidmm.outputs.voc_labels import write_voc
from covidmm.outputs.yolo_labels import write_yolo

#: By name: writes a prepared folder into an empty folder, which will be called by the third argument, and returns what
#: is to be said of it, a sentence each.
LAYOUTS: Mapping[str, Callable[[PreparedFolder, Path, Path], list[str]]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "table": write_table,
}
#: The file that says that a folder is an export, and lists what else it holds.
MARKER = ".covidmm-export"


def export(prepared: Path, out: Path, layout: str) -> str:
    """Write the images and boxes of a prepared folder in another layout.

    Everything is written beside ``out`` and takes its name at the end. An earlier export there is replaced.

    Args:
        prepared: a folder of ``tools/prepare.py``.
        out: the folder to make.
        layout: one of :data:`LAYOUTS`.

    Returns:
        What was written and what was left out, for people.

    Raises:
        DataError: the folder cannot be read or has nothing to export, or ``out`` holds something else.
    """
    _require_free(out)
    data = read_prepared(prepared)
    return whole_folder(out, lambda part, whole: LAYOUTS[layout](data, part, whole))


def whole_folder(out: Path, fill: Callable[[Path, Path], list[str]]) -> str:
    """Make a folder of an export, whole or not at all; an earlier export there is replaced.

    Args:
        out: the folder.
        fill: fills an empty folder that will be called by its second argument, and says what it wrote.

    Returns:
        Where it is and what was said, for people.

    Raises:
        DataError: ``out`` holds something else.
    """
    _require_free(out)
    whole = out.resolve()
    part, old = (whole.with_name(f".{whole.name}.{kind}") for kind in ("part", "old"))
    for left in (part, old):  # of an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        notes = fill(part, whole)
        (part / MARKER).write_text("\n".join(sorted(path.name for path in part.iterdir())))
        if whole.exists():
            whole.rename(old)
        part.rename(whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return "\n".join([f"export: {out}", *(f"note: {note}" for note in notes)])


def _require_free(out: Path) -> None:
    """An empty or missing folder, or an earlier export."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is no folder")
    marker = out / MARKER
    own = {MARKER, *marker.read_text().splitlines()} if marker.is_file() else set()
    if others := sorted({path.name for path in out.iterdir()} - own) if out.is_dir() else []:
        raise DataError(f"{out}: holds '{others[0]}', which is of no export of covidmm; name a new or an empty folder")
