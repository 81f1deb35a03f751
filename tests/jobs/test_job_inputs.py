"""What a job needs of its config."""

import json

import pytest
from mmengine.config import Config

from covidmm.errors import ConfigError, DataError
from covidmm.jobs.job_inputs import (
    annotation_files,
    own_metric,
    require_annotations,
    require_own_metric,
    require_parts,
    split_results,
)

COCO = {"type": "CocoMetric", "ann_file": "a.json"}
OURS = {"type": "mmdet.DetectionMetric", "ann_file": "b.json"}


def test_a_missing_annotation_file_is_named_with_its_key(tmp_path):
    """Of MMDetection's own data set, inside a wrapper, and of a metric in a list."""
    inner = {"type": "CocoDataset", "data_root": str(tmp_path), "ann_file": "train.json"}
    cfg = Config({"train_dataloader": {"dataset": {"type": "RepeatDataset", "times": 2, "dataset": inner}}})
    with pytest.raises(DataError, match=r"train\.json: no such file, named by train_dataloader\.dataset\.dataset\."):
        require_annotations(cfg, ["train"])
    (tmp_path / "train.json").write_text(json.dumps({}))
    require_annotations(cfg, ["train"])
    cfg.val_evaluator = [{"type": "DumpResults"}, {**COCO, "ann_file": str(tmp_path / "val.json")}]
    with pytest.raises(DataError, match=r"val\.json: no such file, named by val_evaluator\.1\.ann_file"):
        require_annotations(cfg, ["train", "val"])


def test_files_elsewhere_are_left_to_their_backend():
    assert not list(annotation_files({"ann_file": "s3://bucket/a.json"}, "x"))
    assert not list(annotation_files({"ann_file": "a.json", "backend_args": {"backend": "petrel"}}, "x"))
    assert not list(annotation_files({"ann_file": ""}, "x"))


@pytest.mark.parametrize(("evaluators", "found"), [(OURS, OURS), ([COCO, OURS], OURS), (COCO, None), ([COCO], None)])
def test_covidmm_s_metric_is_found_among_others(evaluators, found):
    assert own_metric(evaluators) == found
    cfg = Config({"test_evaluator": evaluators})
    if found is None:
        with pytest.raises(ConfigError, match=r"--show-dir needs DetectionMetric or LabelMetric .* has CocoMetric"):
            require_own_metric(cfg, "--show-dir")
    else:
        require_own_metric(cfg, "--show-dir")


def test_results_are_divided_by_metric():
    found = {"detection/mAP": 0.5, "coco/bbox_mAP": 0.4}
    assert split_results(found, OURS) == ({"mAP": 0.5}, {"coco/bbox_mAP": 0.4})
    assert split_results(found, {**OURS, "prefix": "coco"}) == ({"bbox_mAP": 0.4}, {"detection/mAP": 0.5})
    assert split_results(found, None) == ({}, found)


def test_a_part_that_a_job_needs_is_named():
    with pytest.raises(ConfigError, match=r"mine\.py: has no 'train_cfg', which a training needs"):
        require_parts(
            Config({"model": {"type": "X"}, "train_cfg": None}), "mine.py", ["model", "train_cfg"], "a training"
        )
