"""A dozen lines turn a config of MMDetection into an experiment; ``tests.stress.short_configs`` trains them."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.engine.preflight import check_classes
from tests.helpers.short_configs import FAMILIES, LINES, short_config

#: What an experiment takes from MMDetection's config as it is.
KEPT = ("optim_wrapper", "param_scheduler", "train_cfg")


def unscoped(value):
    """Without the scope that MMEngine writes into every part of a base of MMDetection; a tuple is as good as a list."""
    if isinstance(value, dict):
        return {key: unscoped(one) for key, one in value.items() if key != "_scope_"}
    return [unscoped(one) for one in value] if isinstance(value, list | tuple) else value


def innermost(dataset):
    return innermost(dataset.dataset) if "dataset" in dataset else dataset


def pipelines(dataset):
    return [dataset.get("pipeline"), *(pipelines(dataset.dataset) if "dataset" in dataset else [])]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_dozen_lines_turn_a_config_of_mmdetection_into_an_experiment(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SIIM_ROOT", "somewhere/else")
    path = tmp_path / "experiment.py"
    path.write_text(short_config(name))
    assert len(path.read_text().splitlines()) <= LINES
    cfg, theirs, plain = load_config(path), get_config(f"mmdet::{name}.py"), Config.fromfile(path).to_dict()
    assert unscoped(cfg.to_dict()) == unscoped({key: plain[key] for key in cfg})
    for key in KEPT:
        assert unscoped(cfg[key]) == unscoped(theirs[key])
    for split in ("train", "val", "test"):
        dataset, before = cfg[f"{split}_dataloader"].dataset, theirs[f"{split}_dataloader"].dataset
        assert unscoped(pipelines(dataset)) == unscoped(pipelines(before))
        inner = innermost(dataset)
        assert (inner.type, inner.data_root) == ("SIIMDataset", "somewhere/else")
        assert inner.ann_file == f"annotations/{split}.json"
        if split != "train":
            evaluator = cfg[f"{split}_evaluator"]
            assert evaluator == {"type": "DetectionMetric", "ann_file": f"somewhere/else/{inner.ann_file}"}
    assert cfg.default_hooks.checkpoint.save_best == "detection/mAP_50"
    own = [hook.type for hook in theirs.get("custom_hooks") or []] if FAMILIES[name][2] else []
    assert [hook.type for hook in cfg.custom_hooks][: len(own) + 1] == [*own, "PreflightHook"]
    init_default_scope("mmdet")
    with torch.device("meta"):
        check_classes(MODELS.build(ConfigDict(cfg.model)), ("opacity",))
