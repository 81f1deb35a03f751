"""Writes an audit: ``audit.json``, ``audit.html`` and CSV tables."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment

from covidmm import radiograph
from covidmm.audit.checks import Check, Table, worst
from covidmm.datasets.prepared_folder import data_digest
from covidmm.errors import DataError
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import json_bytes, json_value, write_bytes
from covidmm.utils.provenance import versions

_DIGITS = 6
_ROWS_SHOWN = 25
_PAIRS_SHOWN = 24
_PICTURE = 192  # longer side, pixels


def write_audit(
    out: Path,
    folders: Sequence[Path],
    checks: Sequence[Check],
    pictures: Sequence[tuple[str, Path, str, Path]] = (),
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Write the audit; files of an earlier one that are not replaced are removed.

    Args:
        out: the folder; made if missing.
        folders: the prepared folders.
        checks: their results.
        pictures: caption and file of the first image of a pair, and of the second.
        asked: hashes of the predictions and the classifier that were audited.

    Raises:
        DataError: ``out`` cannot be written.
    """
    tables = {file_name(table): csv_bytes(table.columns, table.rows) for check in checks for table in check.tables}
    content = {
        "versions": versions(),
        "data": [_identity(folder) for folder in folders],
        **(asked or {}),
        "level": worst([check.level for check in checks]).label,
        "checks": {
            check.name: {
                "level": check.level.label,
                "summary": check.summary,
                "explanation": check.paragraph,
                "numbers": _plain(check.numbers),
                "files": [file_name(table) for table in check.tables],
            }
            for check in checks
        },
    }
    page = _page(checks, content, pictures, asked or {})
    try:
        out.mkdir(parents=True, exist_ok=True)
        old = _written_before(out)
        for name, data in tables.items():
            write_bytes(out / name, data)
        write_bytes(out / "audit.html", page)
        write_bytes(out / "audit.json", json_bytes(content, indent=2))
        for name in old - tables.keys():
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error


def summary_text(checks: Sequence[Check]) -> str:
    """One line per check, as printed; a paragraph below each that is not ok."""
    width = max(len(check.name) for check in checks)
    lines = [f"{check.level.label:<7}  {check.name:<{width}}  {check.summary}" for check in checks]
    for check in checks:
        if check.level:
            lines += ["", f"{check.level.label}: {check.name}", check.paragraph.strip()]
    return "\n".join(lines)


def file_name(table: Table) -> str:
    """The CSV file of a table."""
    return re.sub(r"[^\w.-]+", "_", table.name) + ".csv"


def _plain(value: Any) -> Any:
    """JSON values with rounded numbers; None for what JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value


def _identity(folder: Path) -> dict[str, Any]:
    """Name and content hash of a prepared folder; the hash is None where the manifest is gone or damaged."""
    try:
        digest = data_digest(folder)
    except DataError:
        digest = None
    return {"folder": folder.resolve().name, "data_sha256": digest}


def _written_before(out: Path) -> set[str]:
    """Tables of the audit that this one replaces."""
    try:
        checks = json_value((out / "audit.json").read_text())["checks"].values()
        named = {str(name) for check in checks for name in check["files"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()
    return {name for name in named if re.fullmatch(r"[\w.-]+\.csv", name)}


def _page(
    checks: Sequence[Check],
    content: dict[str, Any],
    pictures: Sequence[tuple[str, Path, str, Path]],
    asked: Mapping[str, Any],
) -> bytes:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("covidmm.audit").joinpath("page.html.jinja").read_text())
    shown = [
        ((one, _data_uri(first)), (other, _data_uri(second))) for one, first, other, second in pictures[:_PAIRS_SHOWN]
    ]
    return template.render(
        asked=asked,
        checks=checks,
        content=content,
        pairs=shown,
        pair_count=len(pictures),
        rows=_ROWS_SHOWN,
        file_name=file_name,
    ).encode(errors="replace")


def _data_uri(path: Path) -> str:
    pixels = radiograph.resize_longer(radiograph.read(path).pixels, _PICTURE)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
