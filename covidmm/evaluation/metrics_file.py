"""``metrics.json``: what a tool measured, and from what. The contract is in docs/results.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm.datasets.prepared_folder import data_digest
from covidmm.errors import DataError
from covidmm.utils.fileio import json_bytes, json_value, write_bytes
from covidmm.utils.provenance import git_revision, sha256, versions

#: Sections that hold an entry for each of several models; others are the metrics of one.
_OF_SEVERAL = ("detectors", "evaluators", "seconds", "provenance")


def write_metrics(path: str | Path, **sections: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge sections into ``metrics.json``, so that one file holds every detector of a run.

    Args:
        path: the file; made where it is missing.
        **sections: ``detectors``, ``study``, ``competition``, ``seconds`` or ``provenance``; an entry, such as one
            detector or the whole of ``study``, is replaced as a whole, so it never mixes two runs. None takes a section
            out.

    Returns:
        The whole content.

    Raises:
        DataError: the file that is there holds something else, or a metric is not finite; it stays as it was.
    """
    path = Path(path)
    content: dict[str, Any] = _read_metrics(path)
    for name, section in sections.items():
        if section is None:
            content.pop(name, None)
        else:
            content[name] = {**(content.get(name, {}) if name in _OF_SEVERAL else {}), **section}
    try:
        data = json_bytes(content, indent=2)
    except ValueError as error:
        raise DataError(f"{path}: a metric is infinite or not a number: {sections}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return content


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        content = json_value(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); remove it to start a new one") from error
    if not isinstance(content, dict) or not all(isinstance(section, dict) for section in content.values()):
        raise DataError(f"{path}: does not hold sections by name; remove it to start a new one")
    return content


def provenance(config: str | Path, resolved: str, checkpoint: str | Path, annotations: str | Path) -> dict[str, Any]:
    """What a result came from: config, hashes of checkpoint and annotations, versions and machine.

    Args:
        config: config file.
        resolved: hash of its content, with its bases and overrides.
        checkpoint: checkpoint file.
        annotations: annotation file of the evaluated split. Where ``prepared.json`` lies above it, its
            digest of the whole data set, pixels included, comes along as ``prepared_sha256``.

    Raises:
        DataError: a file is missing, or ``prepared.json`` is damaged.
    """
    found = {
        "config": str(config),
        "config_sha256": sha256(config),
        "config_resolved_sha256": resolved,
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256(checkpoint),
        "data": str(annotations),
        "data_sha256": sha256(annotations),
        "versions": versions(),
        "machine": machine(),
    }
    if digest := data_digest(Path(annotations).parent.parent):
        found["prepared_sha256"] = digest
    if revision := git_revision():
        found["git_revision"] = revision
    return found


def machine() -> dict[str, Any]:
    """What the measured times depend on: platform, number of processors, GPU (None without one)."""
    # a second and more to import, which tools/ensemble.py pays only where a network runs or is scored
    import torch

    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
