"""Read the labels of a folder's images, prepared or raw."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.class_mapping import class_indices
from covidmm.datasets.image_folders import ImageFolder
from covidmm.datasets.image_labels import image_labels, label_names
from covidmm.datasets.prepared_folder import read_split
from covidmm.errors import DataError
from covidmm.evaluation.competition import labels_of
from covidmm.findings import OPACITY, STUDY_CLASSES, StudyLabels
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV, read_images, read_studies
from covidmm.utils.boxes import corners

#: By image id, in the order of the annotations or, of a raw folder, of the study table: resamples are drawn by it.
Truth = Mapping[str, AnnotatedImage]


def read_truth(folder: ImageFolder, classes: Sequence[str]) -> Truth:
    """The labels of every image in a folder: from the annotations of a prepared one, the tables of a raw SIIM one.

    Args:
        folder: the images.
        classes: names of the classes that count; the labels of the boxes are their places in it.

    Raises:
        DataError: the folder has no labels, or not those of all its images.
    """
    if folder.annotations is not None:
        split = read_split(folder.annotations)
        indices = class_indices(str(folder.annotations), split.categories, classes, {}, absent=classes)
        return {image.image_id: image.of_classes(indices, classes) for image in split.images}
    tables = folder.source / IMAGE_CSV, folder.source / STUDY_CSV
    if folder.split != "train" or not all(path.is_file() for path in tables):
        raise DataError(f"{folder.source}: cannot be scored, it is not prepared and has no {IMAGE_CSV} of its images")
    images, studies = read_images(tables[0]), read_studies(tables[1])
    for table, path, ids in (
        (images, tables[0], {image.image_id for image in folder.images}),
        (studies, tables[1], {image.study_id for image in folder.images}),
    ):
        if missing := sorted(ids - set(table.rows)):
            raise DataError(f"{path}: has no usable row for {len(missing)} of {len(ids)} ids, such as '{missing[0]}'")
        if strange := sorted(set(table.rows) - ids):
            raise DataError(
                f"{path}: {len(strange)} of its ids have no image in the folder, such as '{strange[0]}'; "
                "nothing is scored on a part of the labels"
            )
    found = {}
    own = dict(folder.studies())
    indices = class_indices(str(tables[0]), OPACITY, classes, {}, absent=classes)
    for study_id, study_class in studies.rows.items():
        for image in own[study_id]:
            boxes = corners(images.rows[image.image_id].boxes)
            one = AnnotatedImage(image.path, image.image_id, study_id, boxes, study_class=study_class)
            found[image.image_id] = one.of_classes(indices, classes)
    return found


def study_truth(folder: ImageFolder, truth: Truth, labels: StudyLabels) -> dict[str, tuple[str, ...]]:
    """Which of a classifier's classes each study has: those of its images, by labels, study class and boxes.

    Where exactly one can hold, studies with none or several are left out, with a warning (UserWarning); so are all
    where the folder has none of the classes, and classes that it does not have.

    Args:
        folder: the images.
        truth: of :func:`read_truth`.
        labels: of the classifier.

    Returns:
        By study id, in the order of ``truth``; empty where nothing can be scored.

    Raises:
        DataError: as :func:`~covidmm.datasets.prepared_folder.read_split`.
    """
    if labels.of_siim:  # asked of every scored folder, most of which are of other data
        return {image.study_id: (image.study_class,) for image in truth.values() if image.study_class}
    split = None if folder.annotations is None else read_split(folder.annotations)
    known = {*STUDY_CLASSES, *OPACITY} if split is None else {*label_names(split)}
    where = folder.annotations or folder.source
    if lacking := [name for name in labels.names if name not in known and name != labels.negative]:
        warnings.warn(f"{where}: studies: no label {', '.join(lacking)}, not scored", stacklevel=2)
    found: dict[str, set[str]] = {}
    for image in truth.values() if split is None else split.images:
        found.setdefault(image.study_id, set()).update(image_labels(image))
    if not known & ({*labels.names} - {labels.negative}):
        return {}
    rows = {study: _own_classes(names, labels) for study, names in found.items()}
    if labels.multi_label:
        return rows
    unclear = [study for study, names in rows.items() if len(names) != 1]
    if unclear:
        text = (
            f"{where}: {len(unclear)} studies have not exactly one of the classes, such as '{unclear[0]}': not scored"
        )
        warnings.warn(text, stacklevel=2)
    return {study: names for study, names in rows.items() if len(names) == 1}


def _own_classes(names: set[str], labels: StudyLabels) -> tuple[str, ...]:
    """The classes of a study that has labels of these names."""
    found = tuple(name for name in labels.names if name in names and name != labels.negative)
    return found or ((labels.negative,) if labels.negative else ())


def require_scorable(folder: ImageFolder, classes: Sequence[str], studies: bool = False) -> None:
    """Refuse a folder by whose labels detectors cannot be scored, or no fusion be chosen.

    Warns (UserWarning) of classes that only one of both sides has.

    Args:
        folder: with labels.
        classes: that the ensemble finds.
        studies: whether studies are scored, too.

    Raises:
        DataError: as :func:`read_truth`; no image has a box of one of the classes, or only some studies have a class.
    """
    truth = read_truth(folder, classes).values()
    where = folder.annotations or folder.source
    if folder.annotations is not None:
        names = read_split(folder.annotations).categories
        if not set(names) & set(classes):
            raise DataError(f"{where}: has the categories {', '.join(names)}, the ensemble finds {', '.join(classes)}")
        for one, other, what in (
            (classes, names, "no category of {}, which the ensemble finds: not scored"),
            (names, classes, "boxes of {} do not count, which the ensemble does not find"),
        ):
            if lacking := [name for name in one if name not in other]:
                warnings.warn(f"{where}: {what.format(', '.join(lacking))}", stacklevel=2)
    if not any(len(image.boxes) for image in truth):
        raise DataError(f"{where}: no image has a true box; nothing can be scored or chosen by it")
    if studies and any(image.study_class for image in truth):
        labels_of(truth, str(where))
