import pytest
from mmdet.registry import DATASETS

from covidmm.datasets.prepared import OpacityDataset
from covidmm.datasets.rsna import RSNADataset
from covidmm.errors import DataError


def test_it_is_registered_and_reads_opacities():
    assert DATASETS.get("RSNADataset") is RSNADataset
    assert issubclass(RSNADataset, OpacityDataset)
    assert RSNADataset.METAINFO["classes"] == ("opacity",)


def test_a_missing_folder_says_which_command_and_variable(tmp_path):
    with pytest.raises(DataError, match=r"tools/prepare\.py rsna RAW .*RSNA_ROOT"):
        DATASETS.build({"type": "RSNADataset", "data_root": str(tmp_path), "pipeline": []})
