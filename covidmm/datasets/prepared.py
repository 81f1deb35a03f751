"""What the registered data sets share: where a prepared folder is, and what to do when it is not there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from covidmm.datasets.prepared_folder import read_annotations
from covidmm.errors import DataError


def prepared_file(data_root: str | None, ann_file: str, layout: str) -> Path:
    """The annotation file of a prepared data set.

    Args:
        data_root: the prepared folder; a config takes it from the environment.
        ann_file: the annotation file, relative to ``data_root``.
        layout: ``'siim'``, ``'rsna'`` or ``'nih'``.

    Raises:
        DataError: there is no such file; the message says how to make one.
    """
    variable = f"{layout.upper()}_ROOT"
    if not data_root:
        raise DataError(f"data_root: is not set, name a prepared {layout} folder, for example by {variable}")
    path = Path(data_root, ann_file)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; make it with `tools/prepare.py {layout} RAW {data_root}`, "
            f"or let {variable} point at a prepared folder"
        )
    return path


class OpacityDataset(CocoDataset):
    """Radiographs with boxes around opacities, as ``tools/prepare.py`` writes them.

    Images without boxes are kept, unless ``filter_cfg=dict(filter_empty_gt=True)`` says otherwise, and the
    log tells how many images of both kinds there are. Beside mmdet's own keys a sample has those of
    ``EXTRA_KEYS``, which ``PackDetInputs(meta_keys=...)`` hands on to the results.

    Args:
        data_root: the prepared folder.
        ann_file: ``'annotations/train.json'``, ``val.json`` or ``test.json``.
        **kwargs: as for mmdet's ``CocoDataset``.

    Raises:
        DataError: the folder or the annotation file is missing, or is not a COCO file of opacities.
    """

    METAINFO = {"classes": ("opacity",), "palette": [(220, 20, 60)]}
    LAYOUT: ClassVar[str]
    EXTRA_KEYS = (
        "image_id",
        "study_id",
        "study_class",
        "original_width",
        "original_height",
        "fold",
        "patient",
    )

    def __init__(
        self,
        *,
        data_root: str | None = None,
        ann_file: str = "annotations/train.json",
        data_prefix: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        prepared_file(data_root, ann_file, self.LAYOUT)
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=data_prefix or {"img": "images/"}, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation file; see mmdet."""
        names = [category.get("name") for category in read_annotations(self.ann_file)["categories"]]
        unknown = sorted(set(self.metainfo["classes"]) - set(names))
        if unknown:
            raise DataError(f"{self.ann_file}: has the categories {names}, not {unknown[0]!r}")
        return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse one image; see mmdet. Adds ``EXTRA_KEYS``."""
        info = super().parse_data_info(raw_data_info)
        image = raw_data_info["raw_img_info"]
        missing = [key for key in self.EXTRA_KEYS if key not in image]
        if missing:
            raise DataError(f"{self.ann_file}: image {image['img_id']} has no {missing[0]}; prepare the data set again")
        return {**info, **{key: image[key] for key in self.EXTRA_KEYS}}

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


class LabelDataset(BaseDataset, ABC):
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

    LAYOUT: ClassVar[str]

    def __init__(
        self,
        *,
        data_root: str | None = None,
        ann_file: str = "annotations/train.json",
        data_prefix: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        prepared_file(data_root, ann_file, self.LAYOUT)
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=data_prefix or {"img": "images/"}, **kwargs
        )

    @abstractmethod
    def labels_of(self, image: dict[str, Any]) -> list[str]:
        """The labels of one image of the annotation file, each a class of the data set."""

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        data_list = [self._sample(image) for image in read_annotations(self.ann_file)["images"]]
        print_log(f"{type(self).__name__} {self.ann_file}: {len(data_list)} images", logger="current")
        return data_list

    def get_cat_ids(self, idx: int) -> list[int]:
        """The indices of an image's labels: what ``ClassBalancedDataset`` asks."""
        return np.flatnonzero(self.get_data_info(idx)["gt_label"]).tolist()

    def _sample(self, image: dict[str, Any]) -> dict[str, Any]:
        classes = self.metainfo["classes"]
        label = np.zeros(len(classes), np.float32)
        label[[classes.index(name) for name in self.labels_of(image)]] = 1
        keys = ("height", "width", "image_id", "study_id", "patient", "original_width", "original_height")
        return {
            "img_path": str(Path(self.data_prefix["img"], image["file_name"])),
            "img_id": image["id"],
            "gt_label": label,
            **{key: image[key] for key in keys},
        }
