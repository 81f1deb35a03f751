"""The SIIM-FISABIO-RSNA COVID-19 data set (2021): opacities on the radiographs of 6,054 studies."""

from __future__ import annotations

from typing import Any

from mmdet.registry import DATASETS

from covidmm.datasets.prepared import LabelDataset, OpacityDataset
from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES


@DATASETS.register_module()
class SIIMDataset(OpacityDataset):
    """Reads what ``tools/prepare.py siim`` wrote; see :class:`~covidmm.datasets.prepared.OpacityDataset`."""

    LAYOUT = "siim"


@DATASETS.register_module()
class SIIMStudyDataset(LabelDataset):
    """The radiographs of the same folder with the class of their study.

    ``gt_label`` has a single 1, in the order of :data:`covidmm.findings.STUDY_CLASSES`; see
    :class:`~covidmm.datasets.prepared.LabelDataset`.
    """

    METAINFO = {"classes": STUDY_CLASSES}
    LAYOUT = "siim"

    def labels_of(self, image: dict[str, Any]) -> list[str]:
        """The study class of an image; DataError for an unknown one."""
        if image.get("study_class") not in STUDY_CLASSES:
            raise DataError(f"{self.ann_file}: image {image['id']}: unknown study class {image.get('study_class')!r}")
        return [image["study_class"]]
