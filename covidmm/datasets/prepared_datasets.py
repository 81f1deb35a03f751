"""The registered data sets: prepared folders as MMDetection and MMEngine read them.

* ``SIIMDataset``: opacities of SIIM-FISABIO-RSNA COVID-19 (2021), radiographs of 6,054 studies.
* ``RSNADataset``: opacities of the RSNA Pneumonia Detection Challenge (2018), 26,684 radiographs.
* ``SIIMStudyDataset``: the radiographs of the first with the class of their study.
* ``FindingsDataset``: boxes of any classes, of any layout of ``tools/prepare.py``.
* ``NIHDataset``: findings of NIH ChestX-ray14 (Wang et al., 2017), 112,120 radiographs without boxes.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset, CocoDataset
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.annotations import require_classes
from covidmm.datasets.class_mapping import class_indices, mapped_names
from covidmm.datasets.picture_files import picture_fault
from covidmm.datasets.prepared_folder import PreparedSplit, read_split
from covidmm.errors import DataError
from covidmm.findings import OPACITY, STUDY_CLASSES
from covidmm.prepare.layouts.nih import FINDINGS, NO_FINDING


class _PreparedFolder:
    """Where the files of a registered data set are, and what to do when they are not there.

    Args:
        data_root: the prepared folder; a config takes it from the environment.
        ann_file: ``'annotations/train.json'``, ``val.json`` or ``test.json``.
        data_prefix: where below ``data_root`` the images are.
        **kwargs: of the data set of MMDetection or MMEngine.

    Raises:
        DataError: there is no such file, and ``lazy_init`` is not set.
    """

    #: The layout's name, or that of the argument.
    LAYOUT: ClassVar[str]
    #: The environment variable from which the configs take ``data_root``.
    VARIABLE: ClassVar[str]

    def __init__(
        self,
        *,
        data_root: str | None = None,
        ann_file: str = "annotations/train.json",
        data_prefix: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=data_prefix or {"img": "images/"}, **kwargs
        )

    def full_init(self) -> None:
        """Read the annotations; see MMEngine. MMDetection's inferencers do not, and so need no file.

        Raises:
            DataError: there is no such file; the message says how to make one.
        """
        if not self.data_root:
            raise DataError(f"data_root: is not set, name a prepared folder, for example by {self.VARIABLE}")
        if not Path(self.ann_file).is_file():
            raise DataError(
                f"{self.ann_file}: no such file; make it with `tools/prepare.py {self.LAYOUT} RAW {self.data_root}`, "
                f"or let {self.VARIABLE} point at a prepared folder"
            )
        super().full_init()

    def prepare_data(self, idx: int) -> Any:
        """A sample after the pipeline; see MMEngine.

        Raises:
            DataError: its picture cannot be read.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:  # MMCV and OpenCV raise many kinds; those of other causes pass
            path = self.get_data_info(idx)["img_path"]
            if fault := picture_fault(path, whole=True):
                raise DataError(f"{path}: {fault}") from error
            raise


class OpacityDataset(_PreparedFolder, CocoDataset):
    """Radiographs with boxes around opacities, as ``tools/prepare.py`` writes them.

    Images without boxes are kept, unless ``filter_cfg=dict(filter_empty_gt=True)`` says otherwise, and the
    log gives the number of images of both kinds. Beside mmdet's own keys a sample has those of
    ``EXTRA_KEYS``, which ``PackDetInputs(meta_keys=...)`` hands on to the results.

    Args:
        data_root: the prepared folder.
        ann_file: ``'annotations/train.json'``, ``val.json`` or ``test.json``.
        **kwargs: as for mmdet's ``CocoDataset``.

    Raises:
        DataError: the folder or the annotation file is missing, or is not a COCO file of opacities.
    """

    METAINFO = {"classes": OPACITY, "palette": [(220, 20, 60)]}
    EXTRA_KEYS = ("image_id", "study_id", "study_class", "original_width", "original_height", "fold", "patient")

    def load_data_list(self) -> list[dict]:
        """Read the annotation file; see mmdet."""
        names = read_split(Path(self.ann_file)).categories
        require_classes(self.ann_file, names, self.metainfo["classes"])
        with redirect_stdout(io.StringIO()):  # pycocotools says four lines for each file
            return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse one image; see mmdet. Adds ``EXTRA_KEYS``."""
        image = raw_data_info["raw_img_info"]
        return {**super().parse_data_info(raw_data_info), **{key: image[key] for key in self.EXTRA_KEYS}}

    def filter_data(self) -> list[dict]:
        """Filter as mmdet does, and log how many images with and without boxes remain."""
        kept = super().filter_data()
        boxed = sum(bool(info["instances"]) for info in kept)
        print_log(
            f"{type(self).__name__} {self.ann_file}: {len(kept)} of {len(self.data_list)} images kept, "
            f"{boxed} with boxes, {len(kept) - boxed} without",
            logger="current",
        )
        return kept


class LabelDataset(_PreparedFolder, BaseDataset, ABC):
    """Radiographs with a vector of labels, as ``tools/prepare.py`` writes them.

    A sample has ``img_path``, ``img_id``, ``height``, ``width``, ``image_id``, ``study_id``, ``patient``,
    ``original_width``, ``original_height`` and ``gt_label``: float32 (classes,), 1 for each of its labels.

    Args:
        data_root: the prepared folder.
        ann_file: ``'annotations/train.json'``, ``val.json`` or ``test.json``.
        data_prefix: where below ``data_root`` the images are.
        **kwargs: as for mmengine's ``BaseDataset``.

    Raises:
        DataError: the folder or the annotation file is missing, or names an unknown label.
    """

    @abstractmethod
    def labels_of(self, image: AnnotatedImage) -> Sequence[str]:
        """The labels of one image; DataError for one that is no class of the data set."""

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        data_list = [self._sample(image) for image in read_split(Path(self.ann_file)).images]
        print_log(f"{type(self).__name__} {self.ann_file}: {len(data_list)} images", logger="current")
        return data_list

    def get_cat_ids(self, idx: int) -> list[int]:
        """The indices of an image's labels, for ``ClassBalancedDataset``."""
        return np.flatnonzero(self.get_data_info(idx)["gt_label"]).tolist()

    def _sample(self, image: AnnotatedImage) -> dict[str, Any]:
        classes = self.metainfo["classes"]
        label = np.zeros(len(classes), np.float32)
        label[[classes.index(name) for name in self.labels_of(image)]] = 1
        keys = ("height", "width", "image_id", "study_id", "patient", "original_width", "original_height")
        return {
            "img_path": str(Path(self.data_prefix["img"], image.coco["file_name"])),
            "img_id": image.coco["id"],
            "gt_label": label,
            **{key: image.coco[key] for key in keys},
        }


@DATASETS.register_module()
class SIIMDataset(OpacityDataset):
    """Reads what ``tools/prepare.py siim`` wrote."""

    LAYOUT, VARIABLE = "siim", "SIIM_ROOT"


@DATASETS.register_module()
class RSNADataset(OpacityDataset):
    """Reads what ``tools/prepare.py rsna`` wrote."""

    LAYOUT, VARIABLE = "rsna", "RSNA_ROOT"


@DATASETS.register_module()
class FindingsDataset(_PreparedFolder, BaseDetDataset):
    """Radiographs with boxes of any classes, as ``tools/prepare.py`` writes them from any layout.

    Images without boxes are kept, unless ``filter_cfg=dict(filter_empty_gt=True)`` says otherwise.

    Args:
        class_map: name in the folder -> name of the model's class; None leaves its boxes out. Others keep their names.
        absent: classes that the folder is known not to have, where several data sets train together.
        **kwargs: as for mmdet's ``BaseDetDataset``; ``metainfo=dict(classes=...)`` names the classes, which are those
            of the folder by default.

    Raises:
        DataError: the folder or the annotation file is missing or damaged, or its categories do not fit the classes.
    """

    LAYOUT, VARIABLE = "LAYOUT", "FINDINGS_ROOT"
    #: Heads get as many classes as the folder has; see :mod:`covidmm.engine.data_classes`.
    FOLLOWED = True

    def __init__(
        self, *, class_map: Mapping[str, str | None] | None = None, absent: Sequence[str] = (), **kwargs: Any
    ) -> None:
        self.class_map = dict(class_map or {})
        self.absent = tuple(absent)
        super().__init__(**kwargs)

    @classmethod
    def classes_in(cls, split: PreparedSplit, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes of a folder, as a data set of this config sees them."""
        return mapped_names(split.categories, config.get("class_map") or {})

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        split = read_split(Path(self.ann_file))
        if "classes" not in self._metainfo:
            self._metainfo["classes"] = self.classes_in(split, vars(self))
        classes = self._metainfo["classes"]
        indices = class_indices(self.ann_file, split.categories, classes, self.class_map, self.absent)
        data_list = [self._sample(image, indices) for image in split.images]
        boxes = Counter(one["bbox_label"] for sample in data_list for one in sample["instances"])
        others = sum(len(image.boxes) + len(image.crowds) for image in split.images) - boxes.total()
        counts = ", ".join(f"{name} {boxes[index]}" for index, name in enumerate(classes))
        left_out = f"; {others} boxes of other classes are left out" if others else ""
        print_log(f"FindingsDataset {self.ann_file}: {len(data_list)} images, {counts}{left_out}", logger="current")
        return data_list

    def filter_data(self) -> list[dict]:
        """Leave out images without boxes, or too small ones, where ``filter_cfg`` says so."""
        config = {} if self.test_mode else self.filter_cfg or {}
        smallest = config.get("min_size", 0)
        return [
            one
            for one in self.data_list
            if (one["instances"] or not config.get("filter_empty_gt")) and min(one["width"], one["height"]) >= smallest
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The class indices of an image's boxes, for ``ClassBalancedDataset``."""
        return [one["bbox_label"] for one in self.get_data_info(idx)["instances"]]

    def _sample(self, image: AnnotatedImage, indices: Sequence[int | None]) -> dict[str, Any]:
        rows = [
            *zip(image.boxes.tolist(), image.labels, [0] * len(image.boxes), strict=True),
            *zip(image.crowds.tolist(), image.crowd_labels, [1] * len(image.crowds), strict=True),
        ]
        return {
            "img_path": str(Path(self.data_prefix["img"], image.coco["file_name"])),
            "img_id": image.coco["id"],
            **{key: image.coco[key] for key in ("height", "width", *OpacityDataset.EXTRA_KEYS)},
            "instances": [
                {"bbox": box, "bbox_label": indices[label], "ignore_flag": crowd}
                for box, label, crowd in rows
                if indices[label] is not None
            ],
        }


@DATASETS.register_module()
class SIIMStudyDataset(LabelDataset):
    """``gt_label`` has a single 1, in the order of :data:`covidmm.findings.STUDY_CLASSES`."""

    METAINFO = {"classes": STUDY_CLASSES}
    NEGATIVE = STUDY_CLASSES[0]
    LAYOUT, VARIABLE = "siim", "SIIM_ROOT"

    def labels_of(self, image: AnnotatedImage) -> Sequence[str]:
        """The study class of an image; DataError where it has none."""
        if image.study_class is None:
            raise DataError(f"{self.ann_file}: image {image.coco['id']}: has no study class")
        return [image.study_class]


@DATASETS.register_module()
class NIHDataset(LabelDataset):
    """``gt_label`` is in the order of :data:`covidmm.prepare.layouts.nih.FINDINGS`, 'No Finding' last."""

    METAINFO = {"classes": FINDINGS}
    #: Says that nothing is there.
    NEGATIVE = NO_FINDING
    LAYOUT, VARIABLE = "nih", "NIH_ROOT"

    def labels_of(self, image: AnnotatedImage) -> Sequence[str]:
        """The findings of an image; DataError for an unknown one, or where it has none."""
        if image.findings is None:
            raise DataError(f"{self.ann_file}: image {image.coco['id']}: has no labels")
        if unknown := sorted(set(image.findings) - set(FINDINGS)):
            raise DataError(f"{self.ann_file}: image {image.coco['id']}: unknown finding {unknown[0]!r}")
        return image.findings
