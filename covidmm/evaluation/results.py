"""``metrics.json``: what a tool measured, and from what. The contract is in docs/results.md."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm import __version__
from covidmm.atomic import json_bytes, write_bytes
from covidmm.errors import DataError

_DISTRIBUTIONS = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite"),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "pycocotools": ("pycocotools",),
}


def write_metrics(path: str | Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sections into ``metrics.json``, so that one file holds every detector of a run.

    Args:
        path: the file; made where it is missing.
        **sections: ``detectors``, ``study``, ``competition``, ``seconds`` or ``provenance``, merged key by key.

    Returns:
        The whole content.

    Raises:
        DataError: the file that is there is not JSON.
    """
    path = Path(path)
    content: dict[str, Any] = {}
    if path.exists():
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: is not JSON ({error}); remove it") from error
    for name, section in sections.items():
        content[name] = _merged(content.get(name, {}), section)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json_bytes(content, indent=2))
    return content


def provenance(config: str | Path, checkpoint: str | Path, annotations: str | Path) -> dict[str, Any]:
    """What a result came from: config, hashes of checkpoint and annotations, versions and machine."""
    return {
        "config": str(config),
        "config_sha256": sha256(config),
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256(checkpoint),
        "data": str(annotations),
        "data_sha256": sha256(annotations),
        "versions": versions(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, as hex digits."""
    digest = hashlib.sha256()  # hashlib.file_digest would need Python 3.11
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of covidmm and of what it stands on."""
    found = {"covidmm": __version__}
    for name, candidates in _DISTRIBUTIONS.items():
        for candidate in candidates:
            try:
                found[name] = importlib.metadata.version(candidate)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def format_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Detection metrics as a table for people.

    Args:
        rows: name of a detector to its metrics, as :func:`covidmm.evaluation.detection.score_detections` gives.
    """
    columns = {
        "mAP@.50": "mAP_50",
        "mAP@.50:.95": "mAP",
        "F1": "f1",
        "precision": "precision",
        "recall": "recall",
        "threshold": "threshold",
    }
    width = max(12, *(len(name) for name in rows))
    lines = ["  ".join([" " * width, *columns])]
    for name, metrics in rows.items():
        cells = [f"{metrics[key]:{len(title)}.3f}" for title, key in columns.items()]
        lines.append("  ".join([name.ljust(width), *cells]))
    return "\n".join(lines)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = {**old, **new}
    for key in old.keys() & new.keys():
        if isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            both[key] = _merged(old[key], new[key])
    return both
