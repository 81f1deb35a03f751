"""Gives each image of a data set its fold; images of one study, patient or picture stay together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covidmm.prepare import splits
from covidmm.prepare.near_duplicates import find_pairs
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Issue, Sample


class Plan(NamedTuple):
    """The images to use and their folds."""

    folds: Mapping[str, int]
    """By image id, in sorted order."""
    near_duplicates: int
    """Pairs of images that show the same picture."""


def plan(
    samples: Mapping[str, Sample],
    records: Mapping[str, Record],
    thumbnails: NDArray[np.uint8],
    images: Path,
    notes: list[Issue],
    options: Options,
) -> Plan:
    """Give every image its fold.

    Args:
        samples: the usable images, by image id, in sorted order.
        records: of their PNGs, by file name.
        thumbnails: (N, 48, 48) of their PNGs.
        images: folder of the PNGs.
        notes: gets an entry for each placeholder patient id, and for each training image that is left out of the plan
            because it shows what an official test image shows.
        options: of the preparation.
    """
    ids, names = list(samples), [sample.file_name for sample in samples.values()]
    digests = [records[name].pixels_sha256 for name in names]
    found = find_pairs(thumbnails, digests, [images / name for name in names], options.workers, options.progress)
    pairs = [(ids[pair.first], ids[pair.second]) for pair in found]
    groups = splits.group(_shared(samples, records, notes), pairs)
    firsts = {image_id: groups.first(image_id) for image_id in samples}
    official = options.split == "auto" and all(sample.official for sample in samples.values())
    held = _held_out(samples, firsts) if official else {}
    kept = [image_id for image_id in samples if image_id not in held]
    for image_id, (split, other) in sorted(held.items()):
        cause = f"left out of training: shows the same picture or patient as {split} image {other}"
        notes.append(Issue(samples[image_id].file_name, "split", cause))
    if options.split in ("val", "test"):
        fold = splits.TEST if options.split == "test" else options.val_fold
        return Plan(dict.fromkeys(kept, fold), len(pairs))
    given = {image_id: samples[image_id].official for image_id in kept} if official else {}
    folds = splits.assign(
        (
            (None if given.get(image_id) in ("test", "val") else firsts[image_id], samples[image_id].classes)
            for image_id in kept
        ),
        seed=options.seed,
        test_fraction=0.0 if official or options.split != "auto" else options.test_fraction,
    )
    found = {}
    for image_id in kept:
        fold = {"test": splits.TEST, "val": options.val_fold}.get(given.get(image_id), folds.get(firsts[image_id]))
        if given.get(image_id) == "train" and fold == options.val_fold:
            fold = (fold + 1) % splits.FOLDS  # the publisher's own images validate
        found[image_id] = fold
    return Plan(found, len(pairs))


def _held_out(samples: Mapping[str, Sample], firsts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Images that would leak: they share a group with one of the official test list, or of validation where they train.

    Returns:
        Image id -> the split of the other image, and its id.
    """
    ranks = {"test": 2, "val": 1}
    best: dict[str, str] = {}
    for image_id, sample in samples.items():
        first = firsts[image_id]
        if ranks.get(sample.official, 0) > ranks.get(samples[best[first]].official if first in best else None, 0):
            best[first] = image_id
    held = {}
    for image_id, sample in samples.items():
        other = best.get(firsts[image_id])
        if other and samples[other].official != sample.official:
            held[image_id] = samples[other].official, other
    return held


def _shared(
    samples: Mapping[str, Sample], records: Mapping[str, Record], notes: list[Issue]
) -> Iterator[tuple[tuple[str, str], str]]:
    """What an image shares with others, and its id.

    Patient ids of label files are believed; those of headers are not used where half the studies share one.
    """
    patients = {
        image_id: patient
        for image_id, sample in samples.items()
        if (patient := sample.patient or records[sample.file_name].header.patient)
    }
    studies = len({sample.study_id for sample in samples.values()})
    pairs = ((patient, samples[image_id].study_id) for image_id, patient in patients.items())
    placeholders = splits.placeholders(pairs, studies)
    for patient, own in placeholders.items():
        cause = f"{patient!r} stands in {own} of {studies} studies: not used for the splits"
        notes.append(Issue("", "PatientID", cause))
    for image_id, sample in samples.items():
        yield ("study", sample.study_id), image_id
        patient = patients.get(image_id)
        if patient and (sample.patient or patient not in placeholders):
            yield ("patient", patient), image_id
