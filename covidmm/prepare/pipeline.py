"""Turns a raw data set into the folder that training reads: PNGs, one COCO file per split, a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from covidmm.errors import DataError, RadiographError
from covidmm.prepare.coco_files import Image, check_boxes, document, write_table
from covidmm.prepare.layouts import layout_module
from covidmm.prepare.near_duplicates import SIDE
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Job, Record, convert, fingerprint
from covidmm.prepare.planning import plan
from covidmm.prepare.samples import Issue, LabelledFolder, Sample
from covidmm.prepare.splits import MANIFEST, SPLITS, split_of
from covidmm.prepare.summary import Listed, Summary
from covidmm.radiograph import Header
from covidmm.utils.fileio import json_bytes, same_content, whole_file, write_if_changed
from covidmm.utils.journal import Journal
from covidmm.utils.pool import WorkerCrashedError, run_each
from covidmm.utils.provenance import versions

# A journal whose records have other fields is not read.
_RECORD_FIELDS = {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in (Record, Header)}


def prepare(layout: str, raw: Path, out: Path, options: Options) -> Summary:
    """Prepare the data set in ``raw`` into ``out``; what an earlier run has done is kept.

    Writes ``out/images/**.png``, ``out/annotations/{train,val,test}.json``, ``out/prepared.json``,
    ``out/skipped.csv`` and ``out/notes.csv``, each whole or not at all, the annotations last.

    Args:
        layout: one of :data:`covidmm.prepare.layouts.LAYOUTS`.
        raw: the folder as its publisher hands it out; only read.
        out: the folder to make or to complete.
        options: see :class:`Options`.

    Raises:
        DataError: the raw folder cannot be used at all, or ``out`` cannot be written. Single images and rows
            that cannot be used do not raise: the summary lists them.
        KeyboardInterrupt: ctrl-C; what is done stays done.
    """
    raw, out = raw.resolve(), out.resolve()
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    if out == raw or raw in out.parents:
        raise DataError(f"{out}: lies in the raw folder {raw}, choose another place for the prepared data")
    with _writing_errors(raw, out), _folder(out):
        _require_layout(out, layout)
        labels = layout_module(layout).read_folder(raw, options)
        busy = f"{out}: another prepare is writing this folder"
        with Journal(out / ".journal/images.jsonl", _RECORD_FIELDS, busy=busy) as journal:
            write_if_changed(_layout_file(out), layout.encode())
            return _prepare(layout, raw, out, labels, journal, options)


def _prepare(layout: str, raw: Path, out: Path, labels: LabelledFolder, journal: Journal, options: Options) -> Summary:
    records = {item["file_name"]: Record.from_json({**item, "thumbnail": ""}) for item in journal.items()}
    written = _convert_all(labels, raw, out, journal, records, options)
    notes = list(labels.notes)
    samples = _check(labels, records, notes)
    write_table(out / "skipped.csv", labels.skipped, "cause")
    if not samples:
        raise DataError(f"{raw}: no usable image, see {out / 'skipped.csv'}")
    thumbnails = _thumbnails(samples, journal)
    planned = plan(samples, records, thumbnails, out / "images", notes, options)
    write_table(out / "notes.csv", notes, "note")
    images = [
        Image(number, samples[image_id], records[samples[image_id].file_name], fold)
        for number, (image_id, fold) in enumerate(planned.folds.items(), start=1)
    ]
    counts = _write_annotations(layout, out, images, labels, planned.near_duplicates, options)
    if journal.done > len(records):
        _drop_stale_lines(journal, records)
    return Summary(
        out=out,
        written=written,
        kept=sum(sample.file_name in records for sample in labels.samples.values()) - written,
        skipped=Listed.of(labels.skipped),
        notes=Listed.of(notes),
        left_out=labels.left_out,
        counts=counts,
        near_duplicates=planned.near_duplicates,
    )


def _convert_all(
    labels: LabelledFolder, raw: Path, out: Path, journal: Journal, records: dict[str, Record], options: Options
) -> int:
    """Write every PNG that is not there yet, and bring its record up to date; returns how many were written."""
    todo = [sample for sample in labels.samples.values() if not _is_done(sample, out, records, options)]
    if any((out / "images" / sample.file_name).exists() for sample in todo):
        _withdraw(out)  # they describe pixels that are about to change
    written = 0
    jobs = (_job(sample, out, options) for sample in todo)
    results = run_each(convert, jobs, options.workers, options.scheduler, (raw, out))
    hidden = None if options.progress is None else not options.progress
    with closing(results), tqdm(total=len(todo), desc="converting", unit="image", disable=hidden) as bar:
        try:
            for job, outcome in results:
                if isinstance(outcome, Record):
                    journal.append([outcome.to_json()])
                    records[job.file_name] = dataclasses.replace(outcome, thumbnail="")
                    written += 1
                elif isinstance(outcome, OSError):
                    raise outcome
                else:
                    job.target.unlink(missing_ok=True)
                    records.pop(job.file_name, None)
                    labels.skipped.append(_failure(job, outcome, raw))
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped: {written} of {len(todo)} images written", file=sys.stderr)
            raise
    return written


def _job(sample: Sample, out: Path, options: Options) -> Job:
    target = out / "images" / sample.file_name
    return Job(sample.source, target, sample.file_name, options.max_size, options.mask_markers)


def _is_done(sample: Sample, out: Path, records: Mapping[str, Record], options: Options) -> bool:
    """Whether the PNG is there as recorded, made from this source with these options."""
    record = records.get(sample.file_name)
    try:
        return (
            record is not None
            and record.made_from == fingerprint(sample.source, options.max_size, options.mask_markers)
            and record.png_size == (out / "images" / sample.file_name).stat().st_size
        )
    except OSError:
        return False  # one of them is gone; if it is the source, its worker will say so


def _failure(job: Job, error: Exception, raw: Path) -> Issue:
    cause = str(error).removeprefix(f"{job.source}: ") or type(error).__name__
    if not isinstance(error, (RadiographError, WorkerCrashedError)):
        cause = f"{type(error).__name__}: {cause}"
    return Issue(job.source.relative_to(raw).as_posix(), "pixels", " ".join(cause.split()))


def _check(labels: LabelledFolder, records: Mapping[str, Record], notes: list[Issue]) -> dict[str, Sample]:
    """The samples that have a PNG, and of them those that have boxes if they had some, cut to the image."""
    samples = {}
    for image_id, sample in labels.samples.items():
        record = records.get(sample.file_name)
        if record is None:
            continue  # listed already
        boxes = check_boxes(sample, record, labels.skipped, notes)
        if boxes is not None:
            samples[image_id] = sample if boxes == sample.boxes else dataclasses.replace(sample, boxes=boxes)
    return samples


def _thumbnails(samples: Mapping[str, Sample], journal: Journal) -> NDArray[np.uint8]:
    """Thumbnails (N, 48, 48) of the samples' PNGs, in their order: from the journal."""
    rows = {sample.file_name: row for row, sample in enumerate(samples.values())}
    thumbnails = np.empty((len(rows), SIDE, SIDE), np.uint8)
    for item in journal.items():
        row = rows.get(item["file_name"])
        if row is not None:  # of several lines of an image the last counts
            thumbnails[row] = Record.from_json(item).pixels()
    return thumbnails


def _drop_stale_lines(journal: Journal, records: Mapping[str, Record]) -> None:
    last = {item["file_name"]: number for number, item in enumerate(journal.items())}
    numbers = {last[file_name] for file_name in records}
    journal.rewrite([item] for number, item in enumerate(journal.items()) if number in numbers)


def _write_annotations(
    layout: str, out: Path, images: Sequence[Image], labels: LabelledFolder, near_duplicates: int, options: Options
) -> dict[str, Any]:
    """Write the COCO files, then the manifest; returns its counts."""
    folder = out / "annotations"
    folder.mkdir(exist_ok=True)
    if options.split == "auto":
        parts: dict[str, list[Image]] = {split: [] for split in SPLITS}
        for image in images:
            parts[split_of(image.fold, options.val_fold)].append(image)
    else:
        parts = {options.split: list(images)}
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.sample.file_name} {image.record.pixels_sha256}\n".encode())
    with ExitStack() as whole:
        files = {split: whole.enter_context(whole_file(folder / f"{split}.json", keep_equal=True)) for split in parts}
        for split, file in sorted(files.items()):
            info = {"description": f"covidmm {layout}", "layout": layout, "split": split}
            content = document(parts[split], labels.categories, info)
            digest.update(f"{split} {hashlib.sha256(content).hexdigest()}\n".encode())
            file.write(content)
            file.flush()
        for path in folder.glob("*.json"):
            if path.stem not in files or not same_content(path, Path(files[path.stem].name)):
                _withdraw(out)  # the splits of two runs, half of each, would share images
                break
    counts = {split: _counts(part, labels.classes) for split, part in parts.items()}
    write_if_changed(
        out / MANIFEST, _manifest(layout, labels.categories, counts, near_duplicates, digest.hexdigest(), options)
    )
    return counts


def _manifest(
    layout: str,
    classes: Sequence[str],
    counts: dict[str, Any],
    near_duplicates: int,
    data_sha256: str,
    options: Options,
) -> bytes:
    """``prepared.json``.

    Args:
        layout: of the raw folder.
        classes: names of the boxes' classes, by class index.
        counts: per split.
        near_duplicates: number of pairs.
        data_sha256: one digest of the data set: its pixels (not their PNG encoding) and its annotation files.
        options: of the preparation.
    """
    manifest = {
        "layout": layout,
        "versions": versions(),
        "options": {
            "max_size": options.max_size,
            "seed": options.seed,
            "split": options.split,
            "val_fold": options.val_fold,
            "test_fraction": options.test_fraction,
            "negatives": options.negatives,
            "mask_markers": options.mask_markers,
            "patient_from": options.patient_from,
            "columns": options.columns,
            "table": options.table,
            "normalised": options.normalised,
            "readers": options.readers,
        },
        "classes": list(classes),
        "counts": counts,
        "near_duplicates": near_duplicates,
        "data_sha256": data_sha256,
    }
    return json_bytes(manifest, indent=2)


def _counts(images: Sequence[Image], classes: Sequence[str]) -> dict[str, Any]:
    samples = [image.sample for image in images]
    with_boxes = sum(bool(sample.boxes) for sample in samples)
    per_class = Counter(name for sample in samples for name in sample.classes)
    return {
        "images": len(samples),
        "studies": len({sample.study_id for sample in samples}),
        "images_with_boxes": with_boxes,
        "images_without_boxes": len(samples) - with_boxes,
        "boxes": sum(len(sample.boxes) for sample in samples),
        "images_per_class": {name: per_class[name] for name in classes},
    }


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder; after an error remove it again, and its parents, as far as they are empty and were not there."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _layout_file(out: Path) -> Path:
    """The file that names the layout of the data set in a prepared folder."""
    return out / ".journal" / "layout"


def _require_layout(out: Path, layout: str) -> None:
    """Refuse a folder that holds another data set."""
    path = _layout_file(out)
    if path.exists():
        if path.read_text() != layout:
            raise DataError(f"{out}: holds a prepared {path.read_text()} data set, choose another folder")
    elif any(out.iterdir()) and not path.parent.exists():
        raise DataError(f"{out}: is not empty and was not made by prepare, choose another folder")


def _withdraw(out: Path) -> None:
    """Remove the manifest and the COCO files."""
    (out / MANIFEST).unlink(missing_ok=True)
    for split in SPLITS:
        (out / "annotations" / f"{split}.json").unlink(missing_ok=True)


@contextmanager
def _writing_errors(raw: Path, out: Path) -> Iterator[None]:
    """Make a DataError of one line of an error of writing; errors of reading ``raw`` pass."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename or out)
        if path.is_relative_to(raw):
            raise
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
