"""The NIH ChestX-ray14 data set (Wang et al., 2017): 112,120 radiographs with findings, without boxes."""

from __future__ import annotations

from typing import Any

from mmdet.registry import DATASETS

from covidmm.datasets.prepared import LabelDataset
from covidmm.errors import DataError
from covidmm.prepare.layouts.nih import FINDINGS


@DATASETS.register_module()
class NIHDataset(LabelDataset):
    """Radiographs with any number of findings each, as ``tools/prepare.py nih`` writes them.

    ``gt_label`` is in the frozen order of :data:`covidmm.prepare.layouts.nih.FINDINGS`, 'No Finding' last; see
    :class:`~covidmm.datasets.prepared.LabelDataset`.
    """

    METAINFO = {"classes": FINDINGS}
    LAYOUT = "nih"

    def labels_of(self, image: dict[str, Any]) -> list[str]:
        """The findings of an image; DataError for an unknown one."""
        unknown = sorted(set(image.get("labels", ["no labels"])) - set(FINDINGS))
        if unknown:
            raise DataError(f"{self.ann_file}: image {image['id']}: unknown finding {unknown[0]!r}")
        return image["labels"]
