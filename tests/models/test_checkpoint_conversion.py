"""Checkpoint files in and out, and the tool as a process."""

import errno
import hashlib
import os
import re
import shlex
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.errors import CheckpointError
from covidmm.models.checkpoint_conversion import convert_plain, convert_resnet, convert_yolov5
from covidmm.models.checkpoints import read_checkpoint
from tests.helpers.tool_runs import run_tool


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def test_a_torchvision_backbone_gives_the_same_features(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "in.pth")
    lines = convert_resnet(tmp_path / "in.pth", tmp_path / "out" / "r18.pth", "torchvision")
    assert "torchvision ResNet-18" in lines[0]
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


@pytest.mark.parametrize(("name", "kind"), [("resnext50_32x4d", "ResNeXt-50 (32x4d)"), ("resnet34", "ResNet-34")])
def test_the_backbone_is_named_and_filled(tmp_path, name, kind):
    state = getattr(torchvision.models, name)().half().state_dict()
    torch.save(state, tmp_path / "in.pth")
    lines = convert_resnet(tmp_path / "in.pth", tmp_path / "out.pth", "torchvision")
    assert lines[0] == f"{tmp_path / 'in.pth'}: torchvision {kind}; the classifier is left out"
    assert lines[1].startswith("a matching model: 100.0% of ")
    assert read_checkpoint(tmp_path / "out.pth")["state_dict"]["conv1.weight"].dtype == torch.float32


def test_batches_that_were_not_counted_are_not_missed(resnet, tmp_path):
    state = {name: value for name, value in resnet.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "in.pth")
    assert "ResNet-18" in convert_resnet(tmp_path / "in.pth", tmp_path / "out.pth", "timm")[0]


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_or_missing_file_is_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match=rf"{name}: no such checkpoint"):
        convert_resnet(tmp_path / name, tmp_path / "out.pth", "timm")
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=name):
        convert_resnet(tmp_path / name, tmp_path / "out.pth", "timm")


WITHOUT = "not a ResNet: it lacks the convolutions of conv1"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda state: [1, 2], "holds no state dict"),
        (lambda state: {"state_dict": 3}, "holds no state dict"),
        (lambda state: {1: torch.ones(1)}, "holds no state dict"),
        (lambda state: {"conv1.weight": torch.ones(1)}, WITHOUT),
        (lambda state: state | {"conv1.weight": torch.ones(1)}, WITHOUT),
        (lambda state: {k: v for k, v in state.items() if not k.startswith("layer4")}, WITHOUT),
        (lambda state: torchvision.models.mobilenet_v2().state_dict(), WITHOUT),
        (lambda state: {k: v for k, v in state.items() if not k.startswith("layer3.1")}, "stages of 2-2-1-2 blocks"),
        (lambda state: state | {"layer1.0.se.fc1.weight": torch.ones(1)}, "not MMDetection's ResNet-18.*1 left over"),
        (lambda state: torchvision.models.wide_resnet50_2().state_dict(), "not MMDetection's ResNet-50.*another shape"),
    ],
    ids=range(10),
)
def test_what_is_no_resnet_is_refused(resnet, tmp_path, change, cause):
    torch.save(change(resnet.state_dict()), tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=rf"in\.pth: .*{cause}"):
        convert_resnet(tmp_path / "in.pth", tmp_path / "out.pth", "timm")
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_a_file_is_not_converted_onto_itself(tmp_path):
    torch.save({}, tmp_path / "a.pt")
    (tmp_path / "link.pt").symlink_to("a.pt")
    for out in ("a.pt", "link.pt"):
        with pytest.raises(CheckpointError, match="is the file to read"):
            convert_yolov5(tmp_path / "a.pt", tmp_path / out)


def test_a_conversion_may_be_repeated_but_replaces_nothing_else(resnet, tmp_path):
    source, out = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save(resnet.state_dict(), source)
    assert convert_resnet(source, out, "torchvision") == convert_resnet(source, out, "torchvision")
    out.write_bytes(b"trained for a week")
    with pytest.raises(CheckpointError, match=r"out\.pth: exists and holds something else"):
        convert_resnet(source, out, "torchvision")
    assert out.read_bytes() == b"trained for a week"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a folder"):
        convert_resnet(tmp_path / "in.pth", tmp_path, "timm")
    with pytest.raises(CheckpointError, match="/dev/null: is a device"):
        convert_resnet(tmp_path / "in.pth", Path("/dev/null"), "timm")
    with pytest.raises(CheckpointError, match=r"out\.pth: cannot be written, .*file is not a folder"):
        convert_resnet(tmp_path / "in.pth", tmp_path / "file/store/out.pth", "timm")


def test_a_full_disk_leaves_nothing(resnet, tmp_path, monkeypatch):
    torch.save(resnet.state_dict(), tmp_path / "in.pth")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"out\.pth: cannot be written \(No space left on device\)"):
        convert_resnet(tmp_path / "in.pth", tmp_path / "out.pth", "timm")
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


@pytest.mark.e2e
def test_the_tool_says_one_line_and_writes_nothing_when_it_refuses(tmp_path):
    torch.save({"model": {"fc.weight": torch.ones(1)}}, tmp_path / "a.pt")
    result = run_tool("convert_checkpoint.py", "yolov5", tmp_path / "a.pt", tmp_path / "out.pth")
    assert result.code == 1
    assert result.last_line.endswith("not a YOLOv5 detector: no detection head at layer 24 (P5) or 33 (P6)")
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out.pth").exists()


class Needy:
    """Needs to be made by a call, so that nothing but unpickling gives it."""

    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize("whole", [True, False])
def test_the_tensors_of_any_file_are_taken_out_under_their_names(resnet, tmp_path, whole):
    torch.save(resnet if whole else {"state_dict": resnet.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    convert_plain(tmp_path / "a.pt", tmp_path / "b.pth")
    found = read_checkpoint(tmp_path / "b.pth")["state_dict"]
    assert found.keys() == resnet.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in resnet.state_dict().items())


@pytest.mark.parametrize("whole", [True, False])
def test_trust_unpickles_and_says_so(resnet, tmp_path, capsys, whole):
    content = resnet if whole else {"state_dict": resnet.state_dict(), "needy": Needy()}
    torch.save(content, tmp_path / "a.pt")
    if not whole:
        with pytest.raises(CheckpointError, match=r"it names posix\.getcwd; --trust-checkpoint unpickles it"):
            convert_plain(tmp_path / "a.pt", tmp_path / "b.pth")
        assert not (tmp_path / "b.pth").exists()
    assert capsys.readouterr().err == ""
    convert_plain(tmp_path / "a.pt", tmp_path / "b.pth", trusted=True)
    digest = hashlib.sha256((tmp_path / "a.pt").read_bytes()).hexdigest()
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: --trust-checkpoint: unpickling {tmp_path / 'a.pt'} (sha256 {digest}) runs")
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"].keys() == resnet.state_dict().keys()


@pytest.mark.parametrize("content", [b"", b"text", {"needy": 1}, {"model": 3}, [torch.ones(1)]])
def test_trust_does_not_make_a_model_of_nothing(tmp_path, content):
    if isinstance(content, bytes):
        (tmp_path / "a.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt: (cannot be unpickled here|holds no model)"):
        convert_plain(tmp_path / "a.pt", tmp_path / "b.pth", trusted=True)


@pytest.mark.e2e
def test_a_refusal_names_the_command_that_helps(resnet, tmp_path):
    """The command as it is printed, run."""
    torch.save(resnet, tmp_path / "a model.pt")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "a model.pt")
    command = re.search(r"`(tools/convert_checkpoint\.py .*)`", str(caught.value))[1].replace("OUT.pth", "b.pth")
    ended = run_tool("convert_checkpoint.py", *shlex.split(command)[1:], cwd=str(tmp_path))
    assert ended.code == 0, ended.output
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"].keys() == resnet.state_dict().keys()
