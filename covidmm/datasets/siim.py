"""The SIIM-FISABIO-RSNA COVID-19 data set (2021): opacities on the radiographs of 6,054 studies."""

from mmdet.registry import DATASETS

from covidmm.datasets.prepared import OpacityDataset


@DATASETS.register_module()
class SIIMDataset(OpacityDataset):
    """Reads what ``tools/prepare.py siim`` wrote; see :class:`~covidmm.datasets.prepared.OpacityDataset`."""

    LAYOUT = "siim"
