"""Finds the images that label files name, and gives them ids and patients."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from covidmm.errors import ConfigError
from covidmm.prepare.label_files import count_others
from covidmm.radiograph.found_files import SUFFIXES, FoundFile, find_radiographs, name_of


class ImageFiles:
    """The images below a folder, found by the names that labels give them."""

    def __init__(self, raw: Path) -> None:
        self._raw = raw

    def find(self, name: str, near: Path) -> Path:
        """The file of a name: a path below ``near``, its sister ``images``, or RAW; else a file of that name, or stem.

        Raises:
            ValueError: ``file_name: cause`` where there is none, or several.
        """
        relative = PurePosixPath(name.strip().replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"file_name: {name!r} leads out of the folder")
        for folder in dict.fromkeys((near, near / "images", near.parent / "images", self._raw, self._raw / "images")):
            path = folder / relative
            if folder.is_relative_to(self._raw) and path.is_file():
                return path
        last, stem = _normal(relative.name), _normal(relative.stem)
        found = self._by_name.get(last) or self._by_stem.get(last)
        if not found and is_image_name(relative.name):  # another ending than the file's; 1.2.3 is no 1.2
            found = self._by_stem.get(stem)
        return self._only(found or [])

    def called(self, stem: str, *near: Path) -> Path:
        """The image of a name without its suffix: in the first of some folders that holds one, else anywhere.

        Raises:
            ValueError: ``file_name: cause`` where there is none, or several.
        """
        found = self._by_stem.get(_normal(stem), [])
        own = ([path for path in found if path.parent == folder] for folder in near)
        return self._only(next(filter(None, own), found))

    def ending(self, name: str) -> list[Path]:
        """The images of a path's last name; of several, those with the longest end of the path."""
        parts = [_normal(part) for part in PurePosixPath(name.strip().replace("\\", "/")).parts]
        found = self._by_name.get(parts[-1], []) if parts else []
        if len(found) < 2:
            return found
        shared = {path: _shared_end(parts, [_normal(part) for part in path.parts]) for path in found}
        return [path for path in found if shared[path] == max(shared.values())]

    def within(self, folder: Path) -> list[Path]:
        """All images below a folder, sorted."""
        return [path for path in self.every if path.is_relative_to(folder)]

    def _only(self, found: list[Path]) -> Path:
        if not found:
            raise ValueError(f"file_name: no such image below {self._raw.name}/")
        if len(found) > 1:
            shown = ", ".join(path.relative_to(self._raw).as_posix() for path in found[:2])
            raise ValueError(f"file_name: {len(found)} files are called so: {shown}")
        return found[0]

    def left_out(self, used: Iterable[Path]) -> dict[str, int]:
        """What a summary says of images that no label names, and of other files."""
        images = set(self.every) - set(used)
        others = [one.path for one in self._found if one.cause and one.path.suffix.lower() not in _LABELS]
        named = {f"that no label names, such as {min(images)}": len(images)} if images else {}
        return {**named, **count_others(others)}

    @cached_property
    def every(self) -> list[Path]:
        """All images, sorted."""
        return [one.path for one in self._found if one.cause is None]

    @cached_property
    def _found(self) -> list[FoundFile]:
        return list(find_radiographs(self._raw))

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self.every:
            found[_normal(path.name)].append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self.every:
            found[_normal(name_of(path))].append(path)
        return found


def is_image_name(name: str) -> bool:
    """Whether a name has the ending of an image."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last items of two lists are the same."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _normal(name: str) -> str:
    """A name in Unicode's composed form: macOS writes file names decomposed, label files rarely are."""
    return unicodedata.normalize("NFC", name)


_SUFFIXES = (*SUFFIXES, ".bmp", ".gif", ".jp2", ".webp")
_LABELS = (".json", ".csv", ".txt", ".xml", ".yaml", ".yml", ".md", ".gz", ".parquet", ".pq")


def unique_ids(raw: Path, files: Iterable[Path]) -> dict[Path, str]:
    """An image id for each file: its stem where that is unique, else its path, with underscores for slashes.

    Args:
        raw: the folder of the data set.
        files: below it.
    """
    ordered = sorted(files)
    stems = Counter(map(name_of, ordered))
    if all(count == 1 for count in stems.values()):
        return {path: name_of(path) for path in ordered}
    ids: dict[str, Path] = {}
    for path in ordered:
        name = "_".join(path.relative_to(raw).with_suffix("").parts)
        if name in ids:  # a.png and a.jpg, or a/b.png and a_b.png
            name = "_".join(path.relative_to(raw).parts)
        while name in ids:
            name += "_"
        ids[name] = path
    return {path: name for name, path in ids.items()}


def patients_by(pattern: str | None, raw: Path) -> Callable[[Path], str | None]:
    """The function that gives an image file's patient by a pattern in its path below RAW; None without a pattern.

    Args:
        pattern: a regular expression, whose first group (or whole match) is the patient.
        raw: the folder of the data set.

    Raises:
        ConfigError: it is none.
    """
    if pattern is None:
        return lambda path: None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--patient-from {pattern!r}: is no regular expression: {error}") from error

    def patient(path: Path) -> str | None:
        match = expression.search(path.relative_to(raw).as_posix())
        return match and match.group(1 if expression.groups else 0)

    return patient
