"""Turns a raw data set into the folder that training reads: PNGs, one COCO file per split, a manifest."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.errors import DataError, RadiographError
from covidmm.prepare import coco_files as coco
from covidmm.prepare import splits
from covidmm.prepare.coco_files import Image
from covidmm.prepare.journal import Journal
from covidmm.prepare.layouts import nih as nih_labels
from covidmm.prepare.layouts import rsna as rsna_labels
from covidmm.prepare.layouts import siim as siim_labels
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Job, Record, convert, stamp
from covidmm.prepare.planning import Plan, Planner
from covidmm.prepare.samples import Issue, Issues, LabelledFolder, Sample
from covidmm.prepare.scratch import Scratch
from covidmm.prepare.summary import Listed, Summary
from covidmm.utils.fileio import json_bytes, same_content, whole_file, write_if_changed
from covidmm.utils.pool import WorkerCrashedError, run_each
from covidmm.utils.provenance import versions

LAYOUTS = ("siim", "rsna", "nih")
MANIFEST = "prepared.json"


def prepare(layout: str, raw: Path, out: Path, options: Options) -> Summary:
    """Prepare the data set in ``raw`` into ``out``; what an earlier run has done is kept.

    Writes ``out/images/**.png``, ``out/annotations/{train,val,test}.json``, ``out/prepared.json``,
    ``out/skipped.csv`` and ``out/notes.csv``, each whole or not at all, the annotations last.

    Args:
        layout: ``'siim'``, ``'rsna'`` or ``'nih'``.
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
        _check_owner(out, layout)
        with Journal(out) as journal:
            labels = _read_labels(layout, raw, journal.scratch, options)
            write_if_changed(_owner(out), layout.encode())
            return _prepare(layout, raw, out, labels, journal, options)


def _prepare(layout: str, raw: Path, out: Path, labels: LabelledFolder, journal: Journal, options: Options) -> Summary:
    written = _convert_all(labels, raw, out, journal, options)
    notes = Issues(journal.scratch.map())
    planner = Planner(journal.scratch, out / "images")
    converted = _check(labels, journal, planner, notes)
    coco.write_table(out / "skipped.csv", labels.skipped, "cause")
    if not len(planner):
        raise DataError(f"{raw}: no usable image, see {out / 'skipped.csv'}")
    plan = planner.plan(labels.samples, notes, options)
    coco.write_table(out / "notes.csv", notes, "note")
    counts = _write_annotations(layout, out, plan, labels, journal, options)
    journal.tidy()
    return Summary(
        out=out,
        written=written,
        kept=converted - written,
        skipped=Listed.of(labels.skipped),
        notes=Listed.of(notes),
        left_out=labels.left_out,
        counts=counts,
        near_duplicates=plan.near_duplicates,
    )


def _read_labels(layout: str, raw: Path, scratch: Scratch, options: Options) -> LabelledFolder:
    if layout == "siim":
        return siim_labels.read_folder(raw, scratch)
    if layout == "rsna":
        return rsna_labels.read_folder(raw, scratch, options.negatives)
    return nih_labels.read_folder(raw, scratch)


def _convert_all(labels: LabelledFolder, raw: Path, out: Path, journal: Journal, options: Options) -> int:
    """Write every PNG that is not there yet; returns how many were written."""
    todo = journal.scratch.map()
    total, changes = 0, False
    for image_id, sample in labels.samples.items():
        if not _is_done(sample, journal, options):
            todo[image_id] = None
            total += 1
            changes = changes or (out / "images" / sample.file_name).exists()
    if changes:
        _withdraw(out)  # they describe pixels that are about to change
    written = 0
    jobs = (_job(labels.samples[image_id], out, options) for image_id in todo)
    results = run_each(convert, jobs, options.workers, options.scheduler, (raw, out))
    hidden = None if options.progress is None else not options.progress
    with closing(results), tqdm(total=total, desc="converting", unit="image", disable=hidden) as bar:
        try:
            for job, outcome in results:
                if isinstance(outcome, Record):
                    journal.add(outcome)
                    written += 1
                elif isinstance(outcome, OSError):
                    raise outcome
                else:
                    journal.forget(job.file_name)
                    labels.skipped.append(_failure(job, outcome, raw))
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped: {written} of {total} images written", file=sys.stderr)
            raise
    return written


def _job(sample: Sample, out: Path, options: Options) -> Job:
    target = out / "images" / sample.file_name
    return Job(sample.source, target, sample.file_name, options.max_size, options.mask_markers)


def _is_done(sample: Sample, journal: Journal, options: Options) -> bool:
    try:
        return journal.done(sample.file_name, stamp(sample.source, options.max_size, options.mask_markers))
    except OSError:
        return False  # the file has just gone; its worker will say so


def _failure(job: Job, error: Exception, raw: Path) -> Issue:
    cause = str(error).removeprefix(f"{job.source}: ") or type(error).__name__
    if not isinstance(error, (RadiographError, WorkerCrashedError)):
        cause = f"{type(error).__name__}: {cause}"
    return Issue(job.source.relative_to(raw).as_posix(), "pixels", " ".join(cause.split()))


def _check(labels: LabelledFolder, journal: Journal, planner: Planner, notes: Issues) -> int:
    """Keep the samples that have a PNG, and of them those that have boxes if they had some, cut to the image.

    Returns:
        How many have a PNG.
    """
    converted = 0
    for image_id, sample in labels.samples.items():
        try:
            record = journal.record(sample.file_name)
        except KeyError:
            del labels.samples[image_id]  # listed already
            continue
        converted += 1
        boxes = coco.check_boxes(sample, record, labels.skipped, notes)
        if boxes is None:
            del labels.samples[image_id]
            continue
        if boxes != sample.boxes:
            labels.samples[image_id] = replace(sample, boxes=boxes)
        planner.add(sample, record)
    return converted


def _write_annotations(
    layout: str, out: Path, plan: Plan, labels: LabelledFolder, journal: Journal, options: Options
) -> dict[str, Any]:
    """Write the COCO files, then the manifest; returns its counts."""
    folder = out / "annotations"
    folder.mkdir(exist_ok=True)
    names = splits.SPLITS if options.split == "auto" else (options.split,)
    counts = {split: _Counts(journal.scratch.map()) for split in names}
    digest = hashlib.sha256()
    with ExitStack() as whole:
        files = {split: whole.enter_context(whole_file(folder / f"{split}.json", keep_equal=True)) for split in names}
        documents = {}
        for split, file in files.items():
            info = {"description": f"covidmm {layout}", "layout": layout, "split": split}
            documents[split] = coco.Document(file, journal.scratch.file(), labels.categories, info)
        for number, (image_id, sample) in enumerate(labels.samples.items(), start=1):
            image = Image(sample, journal.record(sample.file_name), plan.fold(image_id))
            split = splits.split_of(image.fold, options.val_fold) if options.split == "auto" else options.split
            documents[split].add(image, number)
            counts[split].add(sample)
            digest.update(f"{sample.file_name} {image.record.pixels_sha256}\n".encode())
        for split in sorted(documents):
            digest.update(f"{split} {documents[split].end()}\n".encode())
        for path in folder.glob("*.json"):
            if path.stem not in files or not same_content(path, Path(files[path.stem].name)):
                _withdraw(out)  # the splits of two runs, half of each, would share images
                break
    content = {split: own.content(labels.classes) for split, own in counts.items()}
    write_if_changed(out / MANIFEST, _manifest(layout, content, plan.near_duplicates, digest.hexdigest(), options))
    return content


def _manifest(layout: str, counts: dict[str, Any], near_duplicates: int, data_sha256: str, options: Options) -> bytes:
    """``prepared.json``.

    Args:
        layout: of the raw folder.
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
        },
        "counts": counts,
        "near_duplicates": near_duplicates,
        "data_sha256": data_sha256,
    }
    return json_bytes(manifest, indent=2)


class _Counts:
    """What a split holds; ``studies`` is an empty map."""

    def __init__(self, studies: MutableMapping[str, None]) -> None:
        self._studies = studies
        self._images = self._with_boxes = self._boxes = 0
        self._per_class: Counter[str] = Counter()

    def add(self, sample: Sample) -> None:
        self._studies[sample.study_id] = None
        self._images += 1
        self._with_boxes += bool(sample.boxes)
        self._boxes += len(sample.boxes)
        self._per_class.update(sample.classes)

    def content(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "images": self._images,
            "studies": len(self._studies),
            "images_with_boxes": self._with_boxes,
            "images_without_boxes": self._images - self._with_boxes,
            "boxes": self._boxes,
            "images_per_class": {name: self._per_class[name] for name in names},
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


def _owner(out: Path) -> Path:
    """The file that says whose the folder is."""
    return out / ".journal" / "layout"


def _check_owner(out: Path, layout: str) -> None:
    """Refuse a folder that holds another data set."""
    owner = _owner(out)
    if owner.exists():
        if owner.read_text() != layout:
            raise DataError(f"{out}: holds a prepared {owner.read_text()} data set, choose another folder")
    elif any(out.iterdir()) and not owner.parent.exists():
        raise DataError(f"{out}: is not empty and was not made by prepare, choose another folder")


def _withdraw(out: Path) -> None:
    (out / MANIFEST).unlink(missing_ok=True)
    for split in splits.SPLITS:
        (out / "annotations" / f"{split}.json").unlink(missing_ok=True)


@contextmanager
def _writing_errors(raw: Path, out: Path) -> Iterator[None]:
    """Say in one line what the operating system refused to write; errors of reading ``raw`` go on."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename or out)
        if path.is_relative_to(raw):
            raise
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
