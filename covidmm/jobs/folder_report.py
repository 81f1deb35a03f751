"""What became of every file of a folder: lines of the summary, ``skipped.csv`` and ``notes.csv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from covidmm.datasets.image_folders import LeftOut
from covidmm.jobs.folder_run import Outcome
from covidmm.outputs.kaggle import IMAGE_SUFFIX, STUDY_SUFFIX
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import write_bytes

SKIPPED, NOTES = "skipped.csv", "notes.csv"
_LISTED = 5
_ROW = "and got the row 'none 1 0 0 1 1'"


def report_files(outcome: Outcome) -> Iterator[str]:
    """Write the two tables, each only where it has a row, and yield the lines of the summary.

    Every file is either predicted, refused, damaged, or left out; the first line has the four numbers.
    """
    cases, images = outcome.run.cases, outcome.fused.images
    refused = [image.error or "" for image in images if image.refused]
    damaged = [image.error or "" for image in images if image.error and not image.refused]
    faults = [one for one in cases.left_out if one.fault]
    others = [one for one in cases.left_out if not one.fault]
    files, predicted = len(images) + len(cases.left_out), len(images) - len(refused) - len(damaged)
    numbers = f"{len(refused)} refused, {len(damaged)} cannot be read, {len(cases.left_out)} left out"
    yield f"{files} files: {predicted} predicted, {numbers}"
    table = _write(outcome, SKIPPED, ("what", "file", "study", "image", "cause"), _skipped(outcome))
    for what, lines in (
        (f"{len(damaged)} of {len(images)} images cannot be read {_ROW}", damaged),
        (f"{len(refused)} of {len(images)} images are refused by 'accepts' of the config {_ROW}", refused),
        (f"images that are lost: {len(faults)}", [f"error: {_told(one)}" for one in faults]),
        (f"files that are no radiograph, or a copy of one: {len(others)}", map(_told, others)),
    ):
        yield from _listed(f"{what}, see {table}:", lines)
    notes = Counter(note for image in images for note in image.notes)
    noted = sum(bool(image.notes) for image in images)
    table = _write(outcome, NOTES, ("study", "image", "note"), _notes(outcome))
    told = [f"{count} x {note}" for note, count in notes.most_common()]
    yield from _listed(f"images with notes on how they were read: {noted} of {len(images)}, see {table}:", told)


def _write(outcome: Outcome, name: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    path = outcome.run.folder / name
    path.unlink(missing_ok=True)  # of an earlier run
    if rows := list(rows):
        write_bytes(path, csv_bytes(columns, rows))
    return str(path)


def _skipped(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for case, image in zip(outcome.run.cases.images, outcome.fused.images, strict=True):
        if image.error:
            what = "refused" if image.refused else "damaged"
            yield what, str(case.path), image.study_id + STUDY_SUFFIX, image.image_id + IMAGE_SUFFIX, image.error
    for one in outcome.run.cases.left_out:
        yield "error" if one.fault else "left out", str(one.path), "", "", one.cause


def _notes(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for image in outcome.fused.images:
        for note in image.notes:
            yield image.study_id + STUDY_SUFFIX, image.image_id + IMAGE_SUFFIX, note


def _told(one: LeftOut) -> str:
    return f"{one.path}: {one.cause}"


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A title and the first lines; nothing where there are none."""
    for number, line in enumerate(lines):
        if not number:
            yield title
        if number == _LISTED:
            yield "  ..."
            return
        yield f"  {' '.join(line.split())}"
