"""Finds the images of Label Studio's tasks, which are URLs, upload names with a prefix, or paths of a storage."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from covidmm.prepare.image_names import ImageFiles, is_image_name

#: What Label Studio puts before the name of an uploaded file, or of one that its exports fetched.
_PREFIX = re.compile(r"^[0-9a-f]{8}(?:-|__)(?=.)")


class TaskImages:
    """The images of a folder by what tasks call them."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def find(self, task: Mapping[str, Any]) -> Path:
        """The image of a task.

        Tried are its path, URL or name, then that without the prefix of an upload, then as Label Studio writes names:
        with underscores for spaces, and without characters such as brackets.

        Raises:
            ValueError: ``data.KEY: cause`` where it names no image or several, or no or several files have its name.
        """
        key, reference = _reference(task["data"])
        names = list(dict.fromkeys(_names(reference)))
        if isinstance(upload := task.get("file_upload"), str) and upload not in names:
            names.append(upload)
        short = [str(PurePosixPath(name).with_name(_PREFIX.sub("", PurePosixPath(name).name))) for name in names]
        for name in dict.fromkeys((*names, *short)):
            if found := self._files.ending(name):
                return self._only(key, reference, found)
        for name in short:
            if found := self._by_valid_name.get(_valid(PurePosixPath(name).name), []):
                return self._only(key, reference, found)
        return self._only(key, reference, [])

    @staticmethod
    def _only(key: str, reference: str, found: list[Path]) -> Path:
        shown = reference if len(reference) < 200 else f"{reference[:100]}...{reference[-97:]}"
        if len(found) != 1:
            cause = f"{len(found)} files may be" if found else "no file is"
            such = f": {', '.join(path.name for path in found[:2])}" if found else ""
            raise ValueError(f"data.{key}: {cause} {shown!r}{such}")
        return found[0]

    @cached_property
    def _by_valid_name(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self._files.every:
            found[_valid(path.name)].append(path)
        return found


def _reference(data: Mapping[str, Any]) -> tuple[str, str]:
    """Key and value of a task's data that name its image."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    named = {key: value for key, value in texts.items() if any(map(is_image_name, _names(value)))} or texts
    inline = next((key for key, value in texts.items() if value.startswith("data:")), None)
    if inline:
        raise ValueError(f"data.{inline}: holds the picture itself, which is not read; export it as a file")
    for key in ("image", "img", "dicom"):
        if key in named:
            return key, named[key].strip()
    if len(named) != 1:
        listed = f": {', '.join(sorted(named))}" if named else f", only {', '.join(sorted(data))}"
        raise ValueError(f"data: names {'several images' if named else 'no image'}{listed}")
    key, value = next(iter(named.items()))
    return key, value.strip()


def _names(reference: str) -> Iterator[str]:
    """The paths that a reference may mean, the likeliest first."""
    parts = urlsplit(reference) if "://" in reference or "?" in reference else None
    if parts is None:
        yield reference
        yield unquote(reference)
        return
    query = parse_qs(parts.query)
    yield from (value for key in ("d", "filepath") for value in query.get(key, ()))
    for value in query.get("fileuri", ()):
        try:
            yield from _names(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    if unquote(parts.path).strip("/"):
        yield unquote(parts.path)


def _valid(name: str) -> str:
    """A name as Django, on which Label Studio is built, writes that of an uploaded file."""
    return re.sub(r"[^-\w.]", "", unicodedata.normalize("NFC", name).strip().replace(" ", "_"))
