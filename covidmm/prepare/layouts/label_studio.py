"""Label Studio's own JSON export, with the annotations of several people.

``RAW/**/*.json``, lists of tasks; images in any folder, found by the end of the URL or upload name that a task gives
them. Rectangles, polygons and ellipses in percent of the image become upright boxes; choices for a whole image are its
labels; a region with a choice ``ignore``, ``crowd`` or ``difficult`` becomes a region to ignore. ``patient`` and
``study_id`` of a task's data are used; predictions, skipped annotations and tasks without a finished one are not. See
https://labelstud.io/guide/export and /guide/task_format.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, label_text
from covidmm.prepare.named_labels import NamedBox, NamedLabels, taken
from covidmm.prepare.options import Options
from covidmm.prepare.readers import NO_CONSENSUS, Drawn, combined
from covidmm.prepare.samples import LabelledFolder
from covidmm.prepare.task_images import TaskImages
from covidmm.prepare.task_regions import Reading, read_results, size_of

#: Why the image of a task is left out.
_OPEN = "of tasks without a finished annotation"


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every export below a folder, and find its images.

    Where several people annotated an image, ``options.readers`` says what becomes of their boxes; annotations that are
    marked as ground truth stand for all of them, and of one person's the last counts. Classes are in the order of the
    alphabet. An image with a region that cannot be used is not used.

    Raises:
        DataError: there is no export, one is damaged or in another of Label Studio's formats, or two classes are called
            the same but for case or spaces.
    """
    files = {path: tasks for path in sorted(raw.rglob("*.json")) if path.name[0] != "." and (tasks := _tasks(path))}
    if not files:
        raise DataError(f"{raw}: no export of Label Studio in it: .json with a list of tasks")
    found = LabelledImages(raw, options)
    images = TaskImages(found.files)
    left_out: Counter[str] = Counter()
    read = []
    for path, tasks in files.items():
        for place, task in enumerate(tasks, start=1):
            where = f"task {task.get('id', f'number {place}')}"
            before, labels = len(found.skipped), None
            source: Path | None = None
            with found.reading(found.name(path), where):
                source = images.find(task)
                labels = NamedLabels(LabelledImage(source, found.name(path)), where)
                cause = _read(task, labels, found, options.readers)
            if source is None:
                continue
            if len(found.skipped) > before or labels is None:
                found.refuse(source)
            elif cause:
                left_out[cause] += 1
                found.refuse(source)
            else:
                read.append(labels)
    folder = taken(found, read)
    return replace(folder, left_out={**left_out, **folder.left_out})


def _tasks(path: Path) -> list[dict[str, Any]] | None:
    """The tasks of a file; None of another JSON file.

    Raises:
        DataError: it cannot be read, or is one of Label Studio's short forms.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, list) or not content or not all(isinstance(one, dict) for one in content):
        return None
    if all(isinstance(one.get("data"), dict) and {"annotations", "completions"} & set(one) for one in content):
        return content
    if any("annotation_id" in one or isinstance(one.get("data"), dict) for one in content):
        raise DataError(f"{path}: has tasks without data and annotations; export the project as JSON, not as JSON-MIN")
    return None


def _read(task: Mapping[str, Any], labels: NamedLabels, found: LabelledImages, readers: str) -> str | None:
    """Read a task.

    Returns:
        Why its image is left out; None where it is used.

    Raises:
        ValueError: ``field: cause``.
    """
    image = labels.image
    chosen = _chosen(task, labels.changes)
    if not chosen:
        return _OPEN
    image.size = size_of([result for _, results in chosen for result in results])
    image.extra = {"label_studio_id": task["id"]} if "id" in task else {}
    data = task["data"]
    image.patient = label_text(data.get("patient")) or label_text(data.get("patient_id"))
    image.study = label_text(data.get("study_id"))
    readings = [
        read_results(
            reader,
            results,
            image.size,
            labels.changes,
            lambda region: found.reading(image.label_file, f"{labels.where}, region {region}"),
        )
        for reader, results in chosen
    ]
    return _join(labels, readings, readers)


def _chosen(task: Mapping[str, Any], changes: Counter[str]) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Who annotated, and the results, of each annotation that counts."""
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise ValueError("annotations: expected a list of objects")
    if models := task.get("predictions"):
        changes["predictions of models were not read"] += len(models) if isinstance(models, list) else 1
    finished = [one for one in annotations if not (one.get("was_cancelled") or one.get("skipped"))]
    truth = [one for one in finished if one.get("ground_truth")] or finished
    last: dict[str, Mapping[str, Any]] = {}
    for one in sorted(truth, key=lambda one: str(one.get("updated_at") or one.get("created_at") or "")):
        last[_reader(one)] = one
    for left, cause in (
        (len(finished) - len(truth), "annotations were not read, as there is a ground truth"),
        (len(truth) - len(last), "annotations were not read, as the same person made a later one"),
    ):
        if left:
            changes[cause] += left
    results = {reader: one.get("result") or [] for reader, one in last.items()}
    if not all(isinstance(one, list) and all(isinstance(each, dict) for each in one) for one in results.values()):
        raise ValueError("result: expected a list of objects")
    return sorted(results.items())


def _reader(annotation: Mapping[str, Any]) -> str:
    """Who made an annotation, by number; no e-mail address leaves the export."""
    by = annotation.get("completed_by")
    number = by.get("id") if isinstance(by, dict) else by
    return f"annotation {annotation.get('id')}" if number is None else str(number)


def _join(labels: NamedLabels, readings: Sequence[Reading], readers: str) -> str | None:
    """Make one of what several people say of an image; returns why it is left out, None where it is used."""
    labels.unboxed = [name for one in readings for name in one.unboxed]
    said = Counter(name for one in readings for name in dict.fromkeys(one.labels))
    labels.labels = [name for name, times in said.items() if times > 1 or readers != "consensus"]
    if len(readings) == 1 and readers == "merge":
        labels.boxes = readings[0].boxes
        return None
    if len(readings) > 1:
        labels.changes[f"annotators' boxes were joined (--readers {readers})"] += len(readings)
    names = sorted({box.name for one in readings for box in one.boxes})
    drawn = [
        Drawn(one.reader, box._replace(label=names.index(name)))
        for one in readings
        for name, box in one.boxes
        if not box.crowd
    ]
    crowds = [named for one in readings for named in one.boxes if named.box.crowd]
    boxes = [NamedBox(names[box.label], box) for box in combined(drawn, readers)]
    labels.boxes = boxes + crowds
    return NO_CONSENSUS if drawn and not boxes else None
