"""Relative paths of a config's data, in the working directory or in the project that the config belongs to."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.utils.projects import found_above

_KEYS = ("data_root", "ann_file")
_PARTS = tuple(f"{split}_{part}" for split in ("train", "val", "test") for part in ("dataloader", "evaluator"))


def find_data(cfg: Config, files: Sequence[str]) -> None:
    """Find the data of a config where a command runs elsewhere than in its project; in place.

    A relative ``data_root`` or ``ann_file`` that the working directory lacks is looked for in the folders of the
    config's own files and those above them, up to the project's. A line on stderr says what was taken from where.

    Args:
        cfg: the config.
        files: every file that it is made of, the deepest base first.
    """
    for part in (cfg.get(name) for name in _PARTS):
        for owner, key in _paths_in(part):
            if key == "ann_file" and owner.get("data_root"):
                continue  # lies below that
            found = (found_above(owner[key], Path(file)) for file in reversed(files))
            if place := next((one for one in found if one), None):
                _tell(owner[key], str(place))
                owner[key] = str(place)


def _paths_in(part: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(part, list | tuple):
        for one in part:
            yield from _paths_in(one)
    elif isinstance(part, dict):
        for key, value in list(part.items()):
            if key in _KEYS and isinstance(value, str) and value:
                yield part, key
            else:
                yield from _paths_in(value)


@cache
def _tell(path: str, place: str) -> None:
    print(f"data: {path} is not in the working directory, {place} is taken", file=sys.stderr)
