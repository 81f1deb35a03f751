"""Prepared phantoms that every config of ``configs/`` can train on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covidmm.datasets.annotations import read_annotations
from covidmm.phantom import write_phantoms
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.utils.fileio import json_bytes, write_bytes

#: The environment variables by which configs find prepared folders.
ROOTS = ("SIIM_ROOT", "RSNA_ROOT", "NIH_ROOT")


def prepare_phantoms(folder: Path, studies: int, side: int) -> Path:
    """Draw phantoms and prepare them; every image has a finding label too, as NIH's have.

    Args:
        folder: an empty one, or one to make.
        studies: how many; three of five train, about.
        side: longer side of the prepared images, pixels.

    Returns:
        The prepared folder.
    """
    write_phantoms(folder / "raw", studies, seed=0, size=(side, side))
    prepared = folder / "prepared"
    prepare("siim", folder / "raw", prepared, Options(max_size=side, progress=False))
    for file in (prepared / "annotations").glob("*.json"):
        content = read_annotations(file, empty=True)
        for image in content["images"]:
            image["labels"] = ["No Finding"]
        write_bytes(file, json_bytes(content))
    return prepared


@contextmanager
def found_by_configs(prepared: Path) -> Iterator[None]:
    """Let every config that is loaded meanwhile name this folder, whatever data set it asks for."""
    before = {name: os.environ.get(name) for name in ROOTS}
    os.environ.update(dict.fromkeys(ROOTS, str(prepared)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
