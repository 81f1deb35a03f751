"""Finds patients, studies and images that are in more than one split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from covidmm.audit.audited_images import placeholder_patients
from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage

_WHAT = ("patient", "study", "image", "file")


def check_leaks(entries: Sequence[AnnotatedImage]) -> Check:
    """Patients, studies, image ids and files that are in two splits of one data set."""
    placeholders = placeholder_patients(entries)
    places: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        names = (entry.patient, entry.study_id, entry.image_id, entry.coco["file_name"])
        for what, name in zip(_WHAT, names, strict=True):
            if name and not (what == "patient" and (entry.dataset, name) in placeholders):
                places[what, entry.dataset, name][entry.split] += 1
    leaks = {key: own for key, own in places.items() if len(own) > 1}
    counts = {what: sum(key[0] == what for key in leaks) for what in _WHAT}
    known = sum(entry.patient is not None for entry in entries)
    numbers = {**counts, "images": len(entries), "images_with_patient": known, "unnamed_patients": len(placeholders)}
    level = Level.FAULT if leaks else Level.WARNING if placeholders else Level.OK
    summary = ", ".join(f"{counts[what]} of the {what}s" for what in _WHAT if counts[what]) + " in two splits"
    divided = len({(entry.dataset, entry.split) for entry in entries}) > len({entry.dataset for entry in entries})
    if not leaks:
        summary = "no patient, study or image in two splits" if divided else "not judged: no data set has two splits"
    if known < len(entries):
        summary += f" ({len(entries) - known} images name no patient)"
    paragraph = (
        "Images of one patient look alike: the same ribs, heart and devices. When some of them train and others test, "
        "the test measures memory. Patient ids, study ids, image ids and file names of each data set were compared "
        "between train, val and test. Where the header has no patient, only studies and images can be."
    )
    if leaks:
        paragraph += " leaks.csv lists what stands in two splits; preparing the data set again keeps it together."
    for (dataset, patient), studies in sorted(placeholders.items()):
        paragraph += f" In {dataset} the patient id {patient!r} stands in {studies} studies: it is a placeholder."
    rows = [
        (what, dataset, name, *(own.get(split, 0) for split in ("train", "val", "test")))
        for (what, dataset, name), own in sorted(leaks.items(), key=lambda item: (_WHAT.index(item[0][0]), item[0]))
    ]
    columns = ("what", "dataset", "id", "train", "val", "test")
    return Check("splits", level, summary, paragraph, numbers, (Table("leaks", columns, rows),))
