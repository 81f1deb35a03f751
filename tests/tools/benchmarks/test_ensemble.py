"""The ensemble beside its plain run, on the smallest models."""

import pytest
import torch
from benchmarks.ensemble import benchmark, format_report


@pytest.fixture
def sure_frcnn(random_ensemble, tmp_path):
    """A checkpoint of random weights, its scores spread: nearly equal ones would change places between layouts."""
    state = torch.load(random_ensemble.members["frcnn"].checkpoint, weights_only=True)["state_dict"]
    for name in ("rpn_head.rpn_cls.weight", "roi_head.bbox_head.fc_cls.weight"):
        state[name] = state[name] * 100
    torch.save({"state_dict": state}, tmp_path / "sure.pth")
    return tmp_path / "sure.pth"


def test_both_ways_find_the_same_boxes_and_their_times_are_told(random_ensemble, sure_frcnn):
    options = [f"members.frcnn.checkpoint={sure_frcnn}", "members.frcnn.weight=9"]
    report = benchmark(random_ensemble.config, options, "float32", images=2, repeats=1)
    assert report["random_weights"] == []  # the files are there, whatever is in them
    assert report["precision"] == {"frcnn": "float32", "yolo": "float32"}
    assert report["augmented"] == ["yolo"]
    assert report["ratio"] == pytest.approx(report["seconds_per_image"] / report["plain_seconds_per_image"])
    assert report["agreement"]["boxes"] > 0
    assert report["agreement"]["worst_iou"] > 0.99
    assert "smallest IoU" in format_report(report)


def test_boxes_of_random_weights_are_not_compared(random_ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    options = [f"members.{name}.checkpoint=covidmm://nothing_{name}" for name in ("frcnn", "yolo")]
    report = benchmark(random_ensemble.config, options, images=1, repeats=1, augmented=False)
    assert report["random_weights"] == ["frcnn", "yolo"]
    assert report["augmented"] == []
    assert report["agreement"] is None
    assert "not compared: random weights" in format_report(report)
