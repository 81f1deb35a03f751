"""The table of training steps, from reports of the modules that measure them."""

import pytest
from benchmarks import classifier, frcnn, train, yolov5

from covidmm.errors import DataError


def test_steps_are_gathered_and_what_cannot_be_timed_is_told(monkeypatch):
    asked = []

    def step(precision, seconds, **more):
        return {"precision": precision, "ratio": 0.5, "seconds": seconds, "reference_seconds": 2 * seconds, **more}

    def of_frcnn(backbone, repeats):
        asked.append(("frcnn", backbone, repeats))
        return {"timings": [step("float32", 3.0), step("bfloat16", 1.5)]}

    def of_classifier(backbone, repeats, stages):
        asked.append(("classifier", stages))
        return {"timings": [step("float32", 1.0, stage="train step")]}

    def of_yolov5(size, batches, repeats, stages):
        asked.append(("yolov5", size, batches, stages))
        raise DataError("the reference is missing")

    for module, fake in ((frcnn, of_frcnn), (classifier, of_classifier), (yolov5, of_yolov5)):
        monkeypatch.setattr(module, "benchmark", fake)
    report = train.benchmark(backbone="resnet18", repeats=3)
    only = ("train step",)
    assert asked == [("frcnn", "resnet18", 3), ("yolov5", "n", (4,), only), ("classifier", only)]
    found = [(one["model"], one["precision"], one["speedup"]) for one in report["timings"]]
    assert found == [("frcnn", "float32", 1), ("frcnn", "bfloat16", 2), ("classifier", "float32", 1)]
    assert all(one["ratio"] == pytest.approx(one["seconds"] / one["reference_seconds"]) for one in report["timings"])
    lines = train.format_report(report).splitlines()
    assert len(lines) == 5
    assert lines[-1] == "not timed: yolov5: the reference is missing"
