"""The NIH ChestX-ray14 data set (Wang et al., 2017): 112,120 radiographs with findings, without boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from covidmm.datasets.nih_labels import FINDINGS
from covidmm.datasets.prepared import load_annotations, prepared_file
from covidmm.errors import DataError


@DATASETS.register_module()
class NIHDataset(BaseDataset):
    """Radiographs with any number of findings each, as ``tools/prepare.py nih`` writes them.

    A sample has ``img_path``, ``img_id``, ``height``, ``width``, ``image_id``, ``study_id``, ``patient``,
    ``original_width``, ``original_height`` and ``gt_label``: float32 (15,), 1 for each finding in the frozen
    order of :data:`covidmm.datasets.nih_labels.FINDINGS` ('No Finding' last) and 0 elsewhere.

    Args:
        data_root: the prepared folder.
        ann_file: ``'annotations/train.json'``, ``val.json`` or ``test.json``.
        data_prefix: where below ``data_root`` the images are.
        **kwargs: as for mmengine's ``BaseDataset``.

    Raises:
        DataError: the folder or the annotation file is missing, or names an unknown finding.
    """

    METAINFO = {"classes": FINDINGS}

    def __init__(
        self,
        *,
        data_root: str | None = None,
        ann_file: str = "annotations/train.json",
        data_prefix: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        prepared_file(data_root, ann_file, "nih")
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=data_prefix or {"img": "images/"}, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        data_list = [self._sample(image) for image in load_annotations(self.ann_file)["images"]]
        print_log(f"NIHDataset {self.ann_file}: {len(data_list)} images", logger="current")
        return data_list

    def _sample(self, image: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(image.get("labels", ["no labels"])) - set(FINDINGS))
        if unknown:
            raise DataError(f"{self.ann_file}: image {image['id']}: unknown finding {unknown[0]!r}")
        label = np.zeros(len(FINDINGS), np.float32)
        label[[FINDINGS.index(name) for name in image["labels"]]] = 1
        keys = ("height", "width", "image_id", "study_id", "patient", "original_width", "original_height")
        return {
            "img_path": str(Path(self.data_prefix["img"], image["file_name"])),
            "img_id": image["id"],
            "gt_label": label,
            **{key: image[key] for key in keys},
        }
