"""Turns a raw data set into the folder that training reads: PNGs, one COCO file per split, a manifest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.atomic import json_bytes, write_bytes, write_if_changed
from covidmm.datasets import coco, duplicates, nih_labels, rsna_labels, siim_labels, splits
from covidmm.datasets.coco import Image
from covidmm.datasets.conversion import Job, Record, convert, stamp
from covidmm.datasets.journal import Journal
from covidmm.datasets.options import Options
from covidmm.datasets.samples import Issue, LabelledFolder, Sample
from covidmm.datasets.summary import Summary
from covidmm.datasets.workers import WorkerCrashedError, run_each
from covidmm.errors import DataError, RadiographError
from covidmm.provenance import versions

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
    labels = _read_labels(layout, raw, options)
    with _writing_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        _check_owner(out, layout)
        with Journal(out) as journal:
            made = _convert_all(labels.samples, raw, out, journal, options)
            checked = coco.check_boxes((sample, journal.records[sample.file_name]) for sample in made.samples)
            checked.skipped += [*labels.skipped, *made.skipped]
            write_if_changed(out / "skipped.csv", coco.table(checked.skipped, "cause"))
            if not checked.images:
                raise DataError(f"{raw}: no usable image, see {out / 'skipped.csv'}")
            plan = _split(checked.images, options)
            checked.notes += plan.notes
            write_if_changed(out / "notes.csv", coco.table(checked.notes, "note"))
            manifest = _write_annotations(layout, out, plan, labels, options)
            journal.tidy()
    return Summary(
        out=out,
        written=made.written,
        kept=len(made.samples) - made.written,
        skipped=tuple(sorted(checked.skipped)),
        notes=tuple(sorted(checked.notes)),
        left_out=labels.left_out,
        counts=manifest["counts"],
        near_duplicates=plan.near_duplicates,
    )


@dataclass
class _Made:
    samples: list[Sample]
    skipped: list[Issue]
    written: int


@dataclass
class _Plan:
    images: list[Image]
    notes: list[Issue]
    near_duplicates: int


def _read_labels(layout: str, raw: Path, options: Options) -> LabelledFolder:
    if layout == "siim":
        return siim_labels.read_folder(raw)
    if layout == "rsna":
        return rsna_labels.read_folder(raw, options.negatives)
    return nih_labels.read_folder(raw)


def _convert_all(samples: Sequence[Sample], raw: Path, out: Path, journal: Journal, options: Options) -> _Made:
    """Write every PNG that is not there yet; returns the samples that have one."""
    jobs = [
        Job(sample.source, out / "images" / sample.file_name, sample.file_name, options.max_size, options.mask_markers)
        for sample in samples
        if not _is_done(sample, journal, options)
    ]
    if any(job.target.exists() for job in jobs):
        _withdraw(out)  # they describe pixels that are about to change
    written = 0
    failed: dict[str, Issue] = {}
    results = run_each(convert, jobs, options.workers, options.scheduler, (raw, out))
    hidden = None if options.progress is None else not options.progress
    with closing(results), tqdm(total=len(jobs), desc="converting", unit="image", disable=hidden) as bar:
        try:
            for job, outcome in results:
                if isinstance(outcome, Record):
                    journal.add(outcome)
                    written += 1
                elif isinstance(outcome, OSError):
                    raise outcome
                else:
                    journal.forget(job.file_name)
                    failed[job.file_name] = _failure(job, outcome, raw)
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped: {written} of {len(jobs)} images written", file=sys.stderr)
            raise
    usable = [sample for sample in samples if sample.file_name not in failed]
    return _Made(usable, list(failed.values()), written)


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


def _split(images: list[Image], options: Options) -> _Plan:
    """Give every image its fold; leaves out training images that show what an official test image shows."""
    by_id = {image.sample.image_id: image for image in images}
    names = sorted(by_id)
    pairs = duplicates.near_duplicates([by_id[name].record.pixels() for name in names])
    same = [(names[one], names[other]) for one, other in pairs]
    patients, notes = _patients(images)
    keys = {name: [f"study:{by_id[name].sample.study_id}", *patients.get(name, ())] for name in names}
    groups = splits.group(keys, same)
    sides = {name: by_id[name].sample.official for name in names}
    official = options.split == "auto" and all(sides.values())
    if official:
        tied = splits.straddling(groups, {name: str(side) for name, side in sides.items()})
        for name, test in tied.items():
            cause = f"left out of training: shows the same picture or patient as test image {test}"
            notes.append(Issue(by_id.pop(name).sample.file_name, "split", cause))
        groups = [group for group in groups if sides[group[0]] != "test" and group[0] not in tied]

    classes = {name: image.sample.classes for name, image in by_id.items()}
    fraction = 0.0 if official or options.split != "auto" else options.test_fraction
    folds = splits.assign(groups, classes, seed=options.seed, test_fraction=fraction)
    whole = {"test": splits.TEST, "val": options.val_fold}
    for name, image in by_id.items():
        image.fold = whole.get(options.split, folds.get(name, splits.TEST))
    return _Plan([by_id[name] for name in sorted(by_id)], notes, len(same))


def _patients(images: Sequence[Image]) -> tuple[dict[str, list[str]], list[Issue]]:
    """Patient key per image id. An id in the files' headers that half the studies share names nobody."""
    studies: dict[str, set[str]] = {image.sample.study_id: set() for image in images}
    for image in images:
        if image.patient:
            studies[image.sample.study_id].add(image.patient)
    placeholders = splits.placeholders(studies)
    notes = []
    for patient, own in placeholders.items():
        cause = f"{patient!r} stands in {own} of {len(studies)} studies: not used for the splits"
        notes.append(Issue("", "PatientID", cause))
    keys = {
        image.sample.image_id: [f"patient:{image.patient}"]
        for image in images
        if image.patient and (image.sample.patient or image.patient not in placeholders)
    }
    return keys, notes


def _write_annotations(layout: str, out: Path, plan: _Plan, labels: LabelledFolder, options: Options) -> dict[str, Any]:
    """Write the COCO files, then the manifest; returns the manifest."""
    folder = out / "annotations"
    folder.mkdir(exist_ok=True)
    ids = {image.sample.image_id: number for number, image in enumerate(plan.images, start=1)}
    files: dict[str, bytes] = {}
    counts: dict[str, Any] = {}
    for split in splits.SPLITS if options.split == "auto" else (options.split,):
        own = [
            image
            for image in plan.images
            if options.split != "auto" or splits.split_of(image.fold, options.val_fold) == split
        ]
        info = {"description": f"covidmm {layout}", "layout": layout, "split": split}
        files[split] = json_bytes(coco.document(own, ids, labels.categories, info))
        counts[split] = _count(own, labels.classes)
    old = {path.stem: path.read_bytes() for path in folder.glob("*.json")}
    if any(old[split] != files.get(split) for split in old):
        _withdraw(out)  # the splits of two runs, half of each, would share images
    for split, data in files.items():
        write_if_changed(folder / f"{split}.json", data)
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
        "near_duplicates": plan.near_duplicates,
        "data_sha256": coco.data_sha256(plan.images, files),
    }
    write_if_changed(out / MANIFEST, json_bytes(manifest, indent=2))
    return manifest


def _count(images: Sequence[Image], names: Sequence[str]) -> dict[str, Any]:
    per_class = Counter(name for image in images for name in image.sample.classes)
    return {
        "images": len(images),
        "studies": len({image.sample.study_id for image in images}),
        "images_with_boxes": sum(bool(image.boxes) for image in images),
        "images_without_boxes": sum(not image.boxes for image in images),
        "boxes": sum(len(image.boxes) for image in images),
        "images_per_class": {name: per_class[name] for name in names},
    }


def _check_owner(out: Path, layout: str) -> None:
    """Refuse a folder that holds another data set; ``.journal/layout`` says whose it is."""
    owner = out / ".journal" / "layout"
    if owner.exists():
        if owner.read_text() != layout:
            raise DataError(f"{out}: holds a prepared {owner.read_text()} data set, choose another folder")
        return
    if any(out.iterdir()) and not owner.parent.exists():
        raise DataError(f"{out}: is not empty and was not made by prepare, choose another folder")
    owner.parent.mkdir(exist_ok=True)
    write_bytes(owner, layout.encode())


def _withdraw(out: Path) -> None:
    (out / MANIFEST).unlink(missing_ok=True)
    for split in splits.SPLITS:
        (out / "annotations" / f"{split}.json").unlink(missing_ok=True)


@contextmanager
def _writing_errors(out: Path) -> Iterator[None]:
    """Say in one line what the operating system refused."""
    try:
        yield
    except OSError as error:
        path = error.filename or out
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
