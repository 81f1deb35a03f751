"""The RSNA Pneumonia Detection Challenge data set (2018): lung opacities on 26,684 radiographs."""

from mmdet.registry import DATASETS

from covidmm.datasets.prepared import OpacityDataset


@DATASETS.register_module()
class RSNADataset(OpacityDataset):
    """Reads what ``tools/prepare.py rsna`` wrote; see :class:`~covidmm.datasets.prepared.OpacityDataset`."""

    LAYOUT = "rsna"
