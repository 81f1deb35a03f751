import pytest
from mmdet.registry import DATASETS

from covidmm.datasets.prepared import OpacityDataset
from covidmm.datasets.siim import SIIMDataset
from covidmm.errors import DataError


def test_it_is_registered_and_reads_opacities():
    assert DATASETS.get("SIIMDataset") is SIIMDataset
    assert issubclass(SIIMDataset, OpacityDataset)
    assert SIIMDataset.METAINFO["classes"] == ("opacity",)


def test_a_missing_folder_says_which_command_and_variable(tmp_path):
    with pytest.raises(DataError, match=r"tools/prepare\.py siim RAW .*SIIM_ROOT"):
        DATASETS.build({"type": "SIIMDataset", "data_root": str(tmp_path), "pipeline": []})
