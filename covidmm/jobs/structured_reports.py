"""Write a folder's findings as DICOM Structured Reports, one file a study."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset

from covidmm.datasets.image_folders import FolderImage
from covidmm.errors import DataError, RadiographError
from covidmm.findings import Detections, ImageFindings, StudyFindings
from covidmm.jobs.folder_run import Outcome
from covidmm.outputs.dicom_identity import report_header
from covidmm.outputs.dicom_sr import study_report
from covidmm.outputs.predictions import ImageEntry
from covidmm.utils.fileio import write_bytes
from covidmm.utils.provenance import hash_lines

#: What may become the name of a file as it is; other study ids come from headers that are not trusted.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


def write_reports(
    outcome: Outcome, folder: str | Path, threshold: float, deidentify: bool = False
) -> tuple[int, list[str]]:
    """Write the report of every study whose images are DICOM files; each file appears whole or not at all.

    Args:
        outcome: what the ensemble made of the folder.
        folder: where ``<study>.dcm`` go.
        threshold: boxes of lower confidence are left out.
        deidentify: leave out whose images they are, and replace their UIDs.

    Returns:
        How many were written, and one line for each study that was skipped.

    Raises:
        CovidmmError: highdicom is missing, or no study could be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = f"{outcome.run.config.path.name}: {outcome.run.config.strategy['type']}"
    fingerprint = hash_lines(outcome.origin())
    boxes = iter(outcome.fused)
    written, skipped = 0, []
    for study_id, cases in outcome.run.cases.studies():
        images = [next(boxes) for _ in cases]
        content = io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warned of odd values when the pixels were read
                findings, headers = _study(study_id, cases, images, outcome)
                report = study_report(
                    findings,
                    headers,
                    threshold,
                    model,
                    fingerprint,
                    deidentify=deidentify,
                    class_codes=outcome.run.config.class_codes,
                )
                report.save_as(content, enforce_file_format=True)
        except RadiographError as error:
            skipped.append(f"{study_id}: {error}")
            continue
        name = _file_name(str(report.StudyInstanceUID) if deidentify else study_id)
        write_bytes(folder / f"{name}.dcm", content.getvalue())
        written += 1
    if not written:
        raise DataError(f"{outcome.run.cases.source}: no study can have a Structured Report, the first: {skipped[0]}")
    return written, skipped


def _study(
    study_id: str, cases: list[FolderImage], images: list[tuple[ImageEntry, Detections]], outcome: Outcome
) -> tuple[StudyFindings, list[Dataset]]:
    """Findings under the UIDs of the images, and the headers of those that can be read."""
    readable = [(case, entry, boxes) for case, (entry, boxes) in zip(cases, images, strict=True) if not entry.error]
    if not readable:
        raise RadiographError(f"no image can be used: {images[0][0].error}")
    headers = [_header(case.path) for case, _, _ in readable]
    findings = [
        ImageFindings(str(header.get("SOPInstanceUID")), entry.height, entry.width, {}, boxes, notes=entry.notes)
        for header, (_, entry, boxes) in zip(headers, readable, strict=True)
    ]
    findings += [ImageFindings(entry.image_id, 0, 0, {}, boxes, entry.error) for entry, boxes in images if entry.error]
    probabilities = (outcome.studies or {}).get(study_id)
    known = None if probabilities is None else np.asarray(probabilities, np.float32)
    return StudyFindings(study_id, findings, known, outcome.run.classes.names, outcome.study_labels), headers


def _header(path: Path) -> Dataset:
    try:
        return report_header(path)
    except ValueError as error:
        raise RadiographError(f"{path}: {error}") from None


def _file_name(study_id: str) -> str:
    return study_id if _PLAIN_NAME.fullmatch(study_id) else hashlib.sha256(study_id.encode()).hexdigest()[:32]
