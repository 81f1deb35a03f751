"""Runs every check on prepared folders, and on predictions or a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covidmm.audit.appearance import Look, look_at_all
from covidmm.audit.audit_files import write_audit
from covidmm.audit.audited_images import read_folders
from covidmm.audit.checks import Check, Level, Table
from covidmm.audit.duplicate_images import check_duplicates
from covidmm.audit.headers import check_headers
from covidmm.audit.label_conflicts import check_conflicts
from covidmm.audit.leaks import check_leaks
from covidmm.audit.shortcuts import check_blur, check_border, check_markers, check_sources
from covidmm.audit.unprepared_labels import check_reading
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder, read_manifest
from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.coco_dicts import read_results
from covidmm.prepare.near_duplicates import Pair, find_pairs
from covidmm.utils.fileio import require_output
from covidmm.utils.packaged_configs import config_path
from covidmm.utils.provenance import resolved_sha256, sha256


def audit(
    folders: Sequence[Path],
    out: Path,
    predictions: Path | None = None,
    threshold: float | None = None,
    classifier: tuple[str, str] | None = None,
    workers: int = 1,
    progress: bool | None = None,
) -> list[Check]:
    """Check folders together, and one detector's predictions or one classifier on one of them.

    Writes ``out/audit.json``, ``out/audit.html`` and one CSV per table.

    Args:
        folders: as ``tools/prepare.py`` wrote them, or of COCO files.
        out: made if missing; files of an earlier audit are replaced.
        predictions: a COCO results list in pixels of the prepared images; only with a single folder.
        threshold: for precision, recall and F1 of the subgroups, from validation.
        classifier: config and checkpoint of a classifier, asked where it looks; only with a single folder.
        workers: processes that read images.
        progress: show a bar; None: only on a terminal.

    Raises:
        ConfigError: predictions or a classifier with several folders, or a threshold without predictions.
        DataError: a folder, an annotation file or the predictions cannot be used.
    """
    if predictions is not None and len(folders) != 1:
        raise ConfigError("--predictions: image numbers belong to one prepared folder, name only that one")
    if classifier is not None and len(folders) != 1:
        raise ConfigError("--classifier: it was trained for one data set, name only the folder of that one")
    if threshold is not None and (predictions is None or not 0 <= threshold <= 1):
        raise ConfigError(f"--threshold: expected 0 to 1 together with --predictions, got {threshold}")
    require_output(out, "--out", folder=True)
    asked = _asked(predictions, classifier)
    data = read_folders(folders)
    entries = [image for one in data for image in one.images]
    detector = _check_detector(data[0], predictions, threshold) if predictions else []
    paths = list(dict.fromkeys(entry.path for entry in entries))
    looks, failed = look_at_all(paths, workers, progress)
    if not looks:
        raise DataError(f"{paths[0]}: no image can be read ({failed[paths[0]]})")
    readable = [entry for entry in entries if entry.path in looks]
    seen = [looks[entry.path] for entry in readable]
    thumbnails, digests = np.stack([look.thumbnail for look in seen]), [look.sha256 for look in seen]
    pairs = find_pairs(thumbnails, digests, [entry.path for entry in readable], workers, progress)
    checks = [
        _check_images(entries, looks, failed),
        check_manifests([one.folder for one in data if one.reading is None]),
        *check_reading(data),
        check_leaks(entries),
        check_duplicates(readable, pairs),
        # a picture that cannot be read has labels all the same, and comes last so that pairs keep their numbers
        check_conflicts([*readable, *(entry for entry in entries if entry.path not in looks)], pairs),
        *check_headers(entries),
        *_check_shortcuts(readable, seen),
        *detector,
        *_check_classifier(readable, classifier),
    ]
    write_audit(out, folders, checks, _pictures(readable, pairs), asked)
    return checks


def _asked(predictions: Path | None, classifier: tuple[str, str] | None) -> dict[str, Any]:
    """The hashes of the predictions and the classifier that are audited."""
    asked: dict[str, Any] = {}
    if predictions is not None:
        asked["predictions"] = {"file": predictions.name, "sha256": sha256(predictions)}
    if classifier is not None:
        # imports torch, which an audit of data alone does without
        from covidmm.engine.checkpointing import trained_file
        from covidmm.engine.config import load_config

        config, checkpoint = classifier
        asked["classifier"] = {
            "config": config_path(config).name,
            "config_resolved_sha256": resolved_sha256(load_config(config).to_dict()),
            "checkpoint_sha256": sha256(trained_file(checkpoint)),
        }
    return asked


def _check_detector(data: PreparedFolder, predictions: Path, threshold: float | None) -> list[Check]:
    if data.reading is not None:
        raise ConfigError(f"--predictions: {data.folder} is not prepared; their image numbers are of a prepared folder")
    # scikit-learn takes a second to import, and most audits have no detector
    from covidmm.audit.subgroups import check_calibration, check_subgroups, score

    results = read_results(predictions)
    if not results:
        raise DataError(f"{predictions}: expected a COCO results list with at least one box")
    categories = {split.category_ids for split in data.splits.values()}
    if len(categories) > 1:
        raise DataError(f"{data.folder}: its splits have different category ids: {sorted(categories)}")
    scored = score(data.images, results, categories.pop())
    return [check_subgroups(scored, threshold), check_calibration(scored)]


def _check_classifier(entries: Sequence[AnnotatedImage], classifier: tuple[str, str] | None) -> list[Check]:
    if classifier is None:
        return []
    from covidmm.audit.lung_attention import check_attention  # imports torch

    return [check_attention(entries, *classifier)]


def _check_shortcuts(entries: Sequence[AnnotatedImage], looks: Sequence[Look]) -> list[Check]:
    checks = []
    names = list(dict.fromkeys(entry.dataset for entry in entries))
    for name in names:
        chosen = [(entry, look) for entry, look in zip(entries, looks, strict=True) if entry.dataset == name]
        own, seen = [entry for entry, _ in chosen], [look for _, look in chosen]
        checks += [check_border(own, seen), check_blur(own, seen), check_markers(own, seen)]
    return [*checks, check_sources(entries, looks)] if len(names) > 1 else checks


def check_manifests(folders: Sequence[Path]) -> Check:
    """Whether each folder says how it was made: without that nobody can tell whether it is whole or was edited.

    Args:
        folders: as ``tools/prepare.py`` wrote them.
    """
    rows = []
    for folder in folders:
        try:
            read_manifest(folder)
        except DataError as error:
            rows.append((folder.resolve().name, str(error)))
    summary = f"{len(rows)} of {len(folders)} folders: {rows[0][1]}" if rows else "every folder has its prepared.json"
    if not folders:
        summary = "not judged: no folder is prepared"
    paragraph = (
        "prepared.json holds the options of the preparation, the counts of every split, and a hash of the data, by "
        "which runs and checkpoints name what they were made from. Without it this audit and every result on the "
        "folder have no hash, and a folder that is not whole cannot be told from one that is; prepare it again."
    )
    level = Level.WARNING if rows else Level.OK
    numbers = {"folders": len(folders), "without": len(rows)}
    return Check("manifest", level, summary, paragraph, numbers, (Table("manifest", ("dataset", "cause"), rows),))


def _check_images(entries: Sequence[AnnotatedImage], looks: Mapping[Path, Look], failed: Mapping[Path, str]) -> Check:
    """Whether every image is there, can be read, and has the size that its boxes count in."""
    rows = [(entry.dataset, entry.coco["file_name"], failed[entry.path]) for entry in entries if entry.path in failed]
    for entry in entries:
        if entry.path in looks and looks[entry.path].shape != entry.size:
            height, width = looks[entry.path].shape
            cause = f"is {width} x {height} pixels, the annotations say {entry.size[1]} x {entry.size[0]}"
            rows.append((entry.dataset, entry.coco["file_name"], cause))
    summary = f"{len(rows)} of {len(entries)} images cannot be used" if rows else f"all {len(entries)} can be read"
    paragraph = (
        "Every PNG that the annotation files name was opened, and its size compared with theirs. A missing, damaged "
        "or resized file ends a training run or puts its boxes in the wrong place; prepare the data set again."
    )
    level = Level.FAULT if rows else Level.OK
    table = Table("images", ("dataset", "file", "cause"), rows)
    return Check("images", level, summary, paragraph, {"images": len(entries), "unusable": len(rows)}, (table,))


def _pictures(entries: Sequence[AnnotatedImage], pairs: Sequence[Pair]) -> list[tuple[str, Path, str, Path]]:
    """Caption and file of both images of every pair, those of different splits first."""
    order = sorted(pairs, key=lambda pair: (entries[pair.first].split == entries[pair.second].split, pair))
    both = [(entries[pair.first], entries[pair.second]) for pair in order]
    return [
        (_caption(one), one.path, _caption(other), other.path)
        for one, other in both
        if (one.study_id, one.split) != (other.study_id, other.split)
    ]


def _caption(entry: AnnotatedImage) -> str:
    return f"{entry.name} ({entry.split}, {', '.join(entry.classes)})"
