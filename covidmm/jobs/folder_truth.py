"""Read the labels of a folder's images, prepared or raw."""

from __future__ import annotations

from collections.abc import Mapping

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.annotations import read_annotations, require_classes
from covidmm.datasets.image_folders import ImageFolder
from covidmm.datasets.prepared_folder import read_split
from covidmm.errors import DataError
from covidmm.evaluation.competition import labels_of
from covidmm.inference.detector import CLASSES
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV, read_images, read_studies
from covidmm.utils.boxes import corners

#: By image id, in the order of the annotations or, of a raw folder, of the study table: resamples are drawn by it.
Truth = Mapping[str, AnnotatedImage]


def read_truth(folder: ImageFolder) -> Truth:
    """The labels of every image in a folder: from the annotations of a prepared one, the tables of a raw SIIM one.

    Raises:
        DataError: the folder has no labels, or not those of all its images.
    """
    if folder.annotations is not None:
        return {image.image_id: image for image in read_split(folder.annotations).images}
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
    for study_id, study_class in studies.rows.items():
        for image in own[study_id]:
            boxes = corners(images.rows[image.image_id].boxes)
            found[image.image_id] = AnnotatedImage(image.path, image.image_id, study_id, boxes, study_class=study_class)
    return found


def require_scorable(folder: ImageFolder, studies: bool = False) -> None:
    """Refuse a folder by whose labels detectors of one class cannot be scored, or no fusion be chosen.

    Args:
        folder: with labels.
        studies: whether studies are scored, too.

    Raises:
        DataError: as :func:`read_truth`; no image has a box, no category is the members' class, there are boxes of
            several categories, or only some studies have a class.
    """
    truth = read_truth(folder).values()
    where = folder.annotations or folder.source
    if not any(len(image.boxes) for image in truth):
        raise DataError(f"{where}: no image has a true box; nothing can be scored or chosen by it")
    if folder.annotations is not None:
        names = [category["name"] for category in read_annotations(folder.annotations)["categories"]]
        require_classes(folder.annotations, names, CLASSES)
    if labels := {int(label) for image in truth for label in image.labels} - {0}:
        count = len(labels | {0})
        raise DataError(f"{where}: has boxes of {count} categories; an ensemble finds the first one, opacities, alone")
    if studies and any(image.study_class for image in truth):
        labels_of(truth, str(where))
