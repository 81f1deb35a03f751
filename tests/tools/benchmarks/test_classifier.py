"""The finding classifier beside a plain loop, with a network that takes seconds."""

import json

import pytest
import torch
from benchmarks import classifier
from benchmarks.classifier import benchmark, format_report
from benchmarks.networks import build_model

from covidmm.errors import DataError


def test_every_stage_and_precision_is_timed_for_both():
    report = benchmark("resnet18", pixels=64, batch=2, repeats=1)
    timings = report["timings"]
    mixed = "float16" if torch.cuda.is_available() else "bfloat16"
    assert [(one["stage"], one["precision"]) for one in timings] == [
        (stage, precision) for precision in ("float32", mixed) for stage in ("inference", "train step")
    ]
    for one in timings:
        assert one["ratio"] == pytest.approx(one["seconds"] / one["reference_seconds"])
    assert report["speedup"]["train step"] == pytest.approx(timings[1]["seconds"] / timings[3]["seconds"])
    # torchvision's ResNet-18 without its last layer, and the hidden layer of 256
    assert report["parameters"] == 11_176_512 + 512 * 256 + 256 + 256 * 15 + 15
    lines = format_report(report).splitlines()
    assert lines[0].split()[0] == "ratio"
    assert len(lines) == 6


def test_one_stage_can_be_timed_alone():
    report = benchmark("resnet18", pixels=32, batch=2, repeats=1, stages=("train step",))
    assert [one["stage"] for one in report["timings"]] == ["train step"] * 2
    assert list(report["speedup"]) == ["train step"]


def test_both_loops_take_the_same_steps():
    ours = build_model(classifier.EXPERIMENTS["resnet18"])
    ours.head[2].p = 0.0  # dropout draws differ
    reference = classifier.reference_model("resnet18", ours)
    data = classifier.Data(4, 64, 15)
    for model, make in ((ours, classifier.our_train_step), (reference, classifier.reference_train_step)):
        for _ in range(2):
            make(model, data, torch.float32)()
    state = reference.state_dict()
    for name, value in ours.backbone.state_dict().items():
        assert torch.allclose(value.float(), state[name].float(), atol=1e-4), name


def test_networks_that_differ_are_not_compared():
    ours = build_model(classifier.EXPERIMENTS["resnet18"])
    reference = classifier.reference_model("resnet18", ours)
    torch.nn.init.ones_(reference.fc[-1].bias)
    with pytest.raises(DataError, match="differ on the same weights"):
        classifier.require_same_logits(ours, reference, classifier.Data(2, 64, 15))


def test_the_tool_prints_and_writes_it(run_benchmark, tmp_path):
    command = ["classifier", "--backbone", "resnet18", "--pixels", "32", "--batch", "2"]
    command += ["--repeats", "1", "--json", tmp_path / "a.json"]
    result = run_benchmark(*command)
    assert result.returncode == 0, result.stderr
    assert "train step" in result.stdout
    assert json.loads((tmp_path / "a.json").read_text())["benchmark"] == "classifier"
