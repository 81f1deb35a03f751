"""Exporting: what is in the file, when it is refused, and the tool."""

from pathlib import Path

import numpy as np
import pytest

from covidmm.engine.config import load_config
from covidmm.errors import CheckpointError, ConfigError, DataError
from covidmm.findings import Detections
from covidmm.inference import export as module
from covidmm.inference.backends import read_metadata
from covidmm.inference.detector import fingerprint
from covidmm.inference.export import Agreement, agreement_of, export, phantoms, to_onnx
from tests.helpers.tool_runs import run_tool

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
ROOT = Path(__file__).parents[2]


def found(*boxes):
    """Boxes of x1 y1 x2 y2 score."""
    array = np.array(boxes, np.float32).reshape(-1, 5)
    return Detections(array[:, :4], array[:, 4])


@pytest.fixture
def few(monkeypatch):
    """Two phantoms instead of twenty."""
    monkeypatch.setattr(module, "phantoms", lambda: phantoms(2))


def test_the_file_says_what_it_was_made_of(sure_yolo, tmp_path, few):
    member = sure_yolo
    out = tmp_path / "yolo.onnx"
    metadata, agreement = export(member.config, member.checkpoint, out, score=0.01)
    assert agreement.holds
    assert agreement.boxes > 0
    assert read_metadata(out) == metadata
    assert metadata["checkpoint_sha256"] == fingerprint(member)["checkpoint_sha256"]
    assert metadata["classes"] == ["opacity"]
    assert metadata["input_size"] == [256, 256]
    assert metadata["std"] == [255.0] * 3
    onnx.checker.check_model(str(out))


def test_a_detector_that_finds_nothing_is_not_exported(random_ensemble, tmp_path, few):
    member = random_ensemble.members["yolo"]
    with pytest.raises(CheckpointError, match=r"no box above 0\.3"):
        export(member.config, member.checkpoint, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_differs_leaves_no_file(random_ensemble, tmp_path, few, monkeypatch):
    member = random_ensemble.members["yolo"]
    content, metadata = to_onnx(member.config, member.checkpoint)
    proto = onnx.load_model_from_string(content)
    for weights in proto.graph.initializer:
        if weights.name.endswith("convs_pred.0.bias"):
            array = onnx.numpy_helper.to_array(weights) + 1
            weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    monkeypatch.setattr(module, "to_onnx", lambda *_: (proto.SerializeToString(), metadata))
    with pytest.raises(CheckpointError, match="not written, the ONNX model differs from PyTorch"):
        export(member.config, member.checkpoint, tmp_path / "a.onnx", score=0.001)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_said_first(tmp_path):
    with pytest.raises(DataError, match="not a file in a folder that exists"):
        export("none.py", "none.pth", tmp_path / "no" / "a.onnx")


def test_test_sizes_must_be_fixed(random_ensemble, tmp_path):
    text = f'_base_ = "{ROOT}/configs/phantom/study_r18_phantom.py"\n'
    (tmp_path / "a.py").write_text(
        text + "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'),"
        "dict(type='PackClassInputs')]))\n"
    )
    assert load_config(tmp_path / "a.py")
    with pytest.raises(ConfigError, match="fixes no size"):
        to_onnx(str(tmp_path / "a.py"), str(random_ensemble.config.with_name("study.pth")))


def test_agreement_looks_both_ways():
    one = found((0, 0, 100, 100, 0.9), (50, 50, 60, 60, 0.1))
    assert agreement_of([one], [one]) == Agreement(1, 1, 1.0, 0.0)
    moved = agreement_of([one], [found((0, 0, 100, 98, 0.9))])
    assert moved.worst_iou == pytest.approx(0.98)
    assert not moved.holds
    assert not agreement_of([found()], [one]).holds
    assert not agreement_of([one], [found()]).holds
    assert agreement_of([found()], [found((50, 50, 60, 60, 0.1))]).holds
    shifted = agreement_of([one], [found((0, 0, 100, 100, 0.8))])
    assert shifted.worst_score == pytest.approx(0.1)
    assert not shifted.holds


def test_phantoms_are_the_same_every_time():
    one, other = phantoms(2), phantoms(2)
    assert len({image.pixels.tobytes() for image in one}) == 2
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))


@pytest.mark.e2e
def test_the_tool_exports_a_classifier(random_ensemble, tmp_path):
    config, checkpoint = ROOT / "configs/phantom/study_r18_phantom.py", random_ensemble.config.with_name("study.pth")
    done = run_tool("export.py", config, checkpoint, tmp_path / "study.onnx")
    assert done.code == 0, done.output
    assert "study.onnx: classifier, input 112x112, batch dynamic" in done.output
    assert "against PyTorch on 20 phantoms: worst difference of scores" in done.output
    assert read_metadata(tmp_path / "study.onnx")["classes"] == ["negative", "typical", "indeterminate", "atypical"]
