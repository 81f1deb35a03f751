import json

import numpy as np
import pytest

from covidmm.errors import DataError
from covidmm.prepare.layouts.nih import FINDINGS
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


@pytest.fixture(scope="module")
def root(tmp_path_factory, make):
    base = tmp_path_factory.mktemp("nih")
    prepare("nih", make.nih(base / "raw"), base / "out", Options(workers=1, progress=False))
    return base / "out"


def build(root, **options):
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    import covidmm.registration  # noqa: F401

    init_default_scope("mmdet")
    pipeline = [{"type": "LoadImageFromFile"}]
    return DATASETS.build({"type": "NIHDataset", "data_root": str(root), "pipeline": pipeline, **options})


def test_labels_are_vectors_in_the_frozen_order(root):
    dataset = build(root)
    images = json.loads((root / "annotations/train.json").read_text())["images"]
    assert len(dataset) == len(images)
    for sample, image in zip(dataset, images, strict=True):
        assert sample["img"].shape == (60, 48, 3)
        assert sample["gt_label"].dtype == np.float32
        assert [FINDINGS[index] for index in np.flatnonzero(sample["gt_label"])] == image["labels"]
        assert sample["patient"] == image["patient"]


def test_an_unknown_finding_is_one_line(root, tmp_path):
    (tmp_path / "annotations").mkdir()
    text = (root / "annotations/train.json").read_text().replace('["Hernia"]', '["Herniation"]')
    (tmp_path / "annotations/train.json").write_text(text)
    with pytest.raises(DataError, match=r"train\.json: image \d+: unknown finding 'Herniation'"):
        build(tmp_path)


def test_a_missing_folder_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match=r"prepare\.py nih RAW .*, or let NIH_ROOT point at"):
        build(tmp_path)
