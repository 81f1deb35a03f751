"""Checkpoint files in and out, and the tool as a process."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import read_checkpoint
from covidmm.models.conversion import convert_resnet, convert_yolov5

TOOL = Path(__file__).parents[2] / "tools/convert_checkpoint.py"


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def test_a_torchvision_backbone_gives_the_same_features(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "in.pth")
    lines = convert_resnet(tmp_path / "in.pth", tmp_path / "out" / "r18.pth", "torchvision")
    assert "2-2-2-2 blocks" in lines[0]
    init_default_scope("mmdet")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "out/r18.pth"), "minimum_share": 1.0}
    ours = MODELS.build({"type": "ResNet", "depth": 18, "style": "pytorch", "init_cfg": init})
    ours.init_weights()
    ours.eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(resnet.children())[:-2])(x)
        assert torch.equal(ours(x)[-1], expected)


def test_timm_weights_come_as_safetensors(resnet, tmp_path):
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / "in.safetensors")
    convert_resnet(tmp_path / "in.safetensors", tmp_path / "out.pth", "timm")
    written = read_checkpoint(tmp_path / "out.pth")
    assert "fc.weight" not in written["state_dict"]
    assert torch.equal(written["state_dict"]["layer4.1.bn2.weight"], resnet.layer4[1].bn2.weight)
    assert written["meta"]["converted_from"] == "in.safetensors"
    assert len(written["meta"]["sha256"]) == 64


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_resnet_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=name):
        convert_resnet(tmp_path / name, tmp_path / "out.pth", "timm")
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="not a ResNet"):
        convert_resnet(tmp_path / "b.pth", tmp_path / "out.pth", "timm")
    assert not (tmp_path / "out.pth").exists()


def test_a_file_is_not_converted_onto_itself(tmp_path):
    torch.save({}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is the file to read"):
        convert_yolov5(tmp_path / "a.pt", tmp_path / "a.pt")


def test_the_tool_says_one_line_and_writes_nothing_when_it_refuses(tmp_path):
    torch.save({"model": {"fc.weight": torch.ones(1)}}, tmp_path / "a.pt")
    command = [sys.executable, TOOL, "yolov5", tmp_path / "a.pt", tmp_path / "out.pth"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("not a YOLOv5 detector: no detection head at layer 24 (P5) or 33 (P6)")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(("num_classes", "left_out"), [(None, False), (80, False), (1, True)])
def test_a_published_detector_is_converted(tmp_path, num_classes, left_out):
    """From the state dict that test_parity froze the names of."""
    import json

    import numpy as np

    with np.load(Path(__file__).parent / "yolov5/data/parity.npz") as frozen:
        shapes = json.loads(str(frozen["shapes"]))
    state = {name: torch.ones(shape, dtype=torch.float16) for name, shape in shapes.items()}
    for level in range(3):  # 80 classes instead of 3
        width = shapes[f"model.24.m.{level}.weight"][1]
        state[f"model.24.m.{level}.weight"] = torch.ones(255, width, 1, 1)
        state[f"model.24.m.{level}.bias"] = torch.ones(255)
    torch.save({"model": state | {"model.24.anchors": torch.ones(3, 3, 2)}}, tmp_path / "n.pt")
    arguments = [] if num_classes is None else ["--num-classes", str(num_classes)]
    command = [sys.executable, TOOL, "yolov5", tmp_path / "n.pt", tmp_path / "store/n.pth", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "YOLOv5-n (6x6 stem, v6.0 or later), 80 classes" in result.stdout
    assert ("head left out" in result.stdout) is left_out
    written = read_checkpoint(tmp_path / "store/n.pth")["state_dict"]
    assert any(name.startswith("bbox_head") for name in written) is not left_out
    assert {value.dtype for value in written.values()} == {torch.float32}
