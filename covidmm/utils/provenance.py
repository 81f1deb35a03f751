"""Provenance of outputs: hashes of data and config, versions, the commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm import __version__
from covidmm.errors import DataError

_DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "pillow": ("pillow",),
    "pydicom": ("pydicom",),
    "highdicom": ("highdicom",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite"),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "pycocotools": ("pycocotools",),
    "faster-coco-eval": ("faster-coco-eval",),
}
#: Keys of a config that do not change a run's result.
_PLACES = ("work_dir", "launcher", "resume", "log_level", "visualizer", "vis_backends", "env_cfg")
#: Keys of files that are hashed or recorded elsewhere: their folder does not count.
_FILES = ("load_from", "checkpoint", "config", "file", "parameters")


def versions() -> dict[str, str]:
    """Versions of covidmm and of its main dependencies."""
    found = {"covidmm": __version__, "python": platform.python_version()}
    for name, candidates in _DISTRIBUTIONS.items():
        for candidate in candidates:
            try:
                found[name] = importlib.metadata.version(candidate)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, as hex digits.

    Raises:
        DataError: there is no such file.
    """
    digest = hashlib.sha256()  # hashlib.file_digest would need Python 3.11
    try:
        with Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    return digest.hexdigest()


def resolved_sha256(config: Mapping[str, Any]) -> str:
    """The SHA-256 of a config with its bases and overrides, independent of the order of its keys.

    Left out are where it runs, the folder of its data, which have a hash of their own, and the checkpoint that it is
    resumed from. Checkpoints and other files that it names count by their name alone.
    """
    content = {name: value for name, value in config.items() if name not in _PLACES}
    if config.get("resume"):
        content["load_from"] = None
    content = _placeless(content, tuple(sorted(_data_roots(content), key=len, reverse=True)))
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()


def _data_roots(value: Any) -> set[str]:
    """Every ``data_root`` in a config, without a slash at the end."""
    if isinstance(value, Mapping):
        own = {str(value["data_root"]).rstrip("/")} if value.get("data_root") else set()
        return own.union(*map(_data_roots, value.values()))
    return set().union(*map(_data_roots, value)) if isinstance(value, list | tuple) else set()


def _placeless(value: Any, roots: tuple[str, ...]) -> Any:
    """A config's value without the folders of its data in its paths."""
    if isinstance(value, Mapping):
        return {
            str(name): Path(own).name if name in _FILES and isinstance(own, str) else _placeless(own, roots)
            for name, own in value.items()
        }
    if isinstance(value, list | tuple):
        return [_placeless(own, roots) for own in value]
    if isinstance(value, str):
        inside = (root for root in roots if root and (value.rstrip("/") == root or value.startswith(f"{root}/")))
        return value.removeprefix(next(inside, ""))
    return value


def hash_lines(origin: Mapping[str, Any]) -> list[str]:
    """The hashes of an ensemble's config and models, a line each.

    Args:
        origin: with ``config_resolved_sha256``, ``members`` by name and ``study_checkpoints_sha256``.
    """
    lines = [f"config sha256: {origin['config_resolved_sha256']}"]
    lines += [f"{name} checkpoint sha256: {one['checkpoint_sha256']}" for name, one in origin["members"].items()]
    return lines + [f"study checkpoint sha256: {digest}" for digest in origin["study_checkpoints_sha256"]]


def git_revision() -> str | None:
    """The commit of the checkout that this code runs from, with ``+changes`` if it was edited.

    None for an installed package, or without git.
    """
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
