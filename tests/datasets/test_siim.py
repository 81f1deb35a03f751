import json

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from covidmm.datasets.prepared import OpacityDataset
from covidmm.datasets.siim import SIIMDataset
from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


def test_it_is_registered_and_reads_opacities():
    assert DATASETS.get("SIIMDataset") is SIIMDataset
    assert issubclass(SIIMDataset, OpacityDataset)
    assert SIIMDataset.METAINFO["classes"] == ("opacity",)


def test_a_missing_folder_says_which_command_and_variable(tmp_path):
    with pytest.raises(DataError, match=r"tools/prepare\.py siim RAW .*SIIM_ROOT"):
        DATASETS.build({"type": "SIIMDataset", "data_root": str(tmp_path), "pipeline": []})


@pytest.fixture
def studies(make, tmp_path):
    prepare("siim", make.siim(tmp_path / "raw", studies=12), tmp_path / "out", Options(workers=1, progress=False))
    return tmp_path / "out"


def test_a_study_class_is_a_vector_and_an_index(studies):
    init_default_scope("mmdet")
    dataset = DATASETS.build({"type": "SIIMStudyDataset", "data_root": str(studies), "pipeline": []})
    images = json.loads((studies / "annotations/train.json").read_text())["images"]
    assert len(dataset) == len(images)
    for index, image in enumerate(images):
        info = dataset.get_data_info(index)
        assert info["gt_label"].tolist() == [float(name == image["study_class"]) for name in STUDY_CLASSES]
        assert dataset.get_cat_ids(index) == [STUDY_CLASSES.index(image["study_class"])]
        assert info["study_id"] == image["study_id"]


def test_an_unknown_study_class_is_one_line(studies):
    path = studies / "annotations/train.json"
    content = json.loads(path.read_text())
    content["images"][0]["study_class"] = "severe"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="unknown study class 'severe'"):
        DATASETS.build({"type": "SIIMStudyDataset", "data_root": str(studies), "pipeline": []})
