"""Checkpoints in the layouts of other trainers: read, or said to be what they are."""

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from covidmm.errors import CheckpointError
from covidmm.models.checkpoint_conversion import convert_plain
from covidmm.models.checkpoints import load_from_local, read_checkpoint
from covidmm.models.pretrained import CheckedPretrainedInit
from covidmm.models.state_dicts import state_of

STATE = {"backbone.weight": torch.ones(2, 3), "head.bias": torch.arange(2.0)}


def wrapped(prefix):
    return {f"{prefix}{name}": value for name, value in STATE.items()}


LAYOUTS = {
    "bare": STATE,
    "model_state_dict": {"model_state_dict": STATE, "optimizer_state_dict": {"state": {}}, "epoch": 3},
    "model": {"model": STATE, "epoch": 3},
    "ema": {"ema": STATE, "model": {"x": torch.ones(1)}},
    "nested": {"model": {"state_dict": STATE}, "epoch": 3},
    "data parallel": {"state_dict": wrapped("module.")},
    "lightning": {"state_dict": wrapped("model."), "pytorch-lightning_version": "2", "callbacks": {}},
    "compiled": {"model": wrapped("_orig_mod.module.")},
    "averaged": {"model_ema": {"n_averaged": torch.tensor(5), **wrapped("module.")}},
    "deepspeed": {"module": wrapped("module."), "optimizer": None},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_in_every_layout(tmp_path, layout):
    torch.save(LAYOUTS[layout], tmp_path / "a.pth")
    found = load_from_local(str(tmp_path / "a.pth"))["state_dict"]
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_meta_stays_beside_weights_under_another_key(tmp_path):
    torch.save({"model": STATE, "meta": {"dataset_meta": {"classes": ("opacity",)}}}, tmp_path / "a.pth")
    assert load_from_local(str(tmp_path / "a.pth"))["meta"] == {"dataset_meta": {"classes": ("opacity",)}}


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_safetensors_are_read_whatever_their_name(tmp_path, name):
    safetensors.torch.save_file(wrapped("model."), tmp_path / name)
    assert state_of(read_checkpoint(tmp_path / name)).keys() == STATE.keys()
    convert_plain(tmp_path / name, tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"].keys() == wrapped("model.").keys()


def test_plain_takes_what_load_from_takes(tmp_path):
    history = HistoryBuffer([1.0], [1])
    torch.save(
        {"state_dict": STATE, "message_hub": {"log_scalars": {"a": history}}, "x": np.ones(2)}, tmp_path / "a.pth"
    )
    load_from_local(str(tmp_path / "a.pth"))
    convert_plain(tmp_path / "a.pth", tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"].keys() == STATE.keys()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"lr": 1}]}, "no weights, but an optimizer's"),
        ({"optimizer": {"state": {}}, "epoch": 3}, "no weights, but an optimizer's"),
        ({"epoch": 3}, r"no weights, but nothing that covidmm reads \(epoch\)"),
    ],
)
def test_a_file_without_weights_is_said_to_be_one(tmp_path, content, cause):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{cause}"):
        load_from_local(str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX network, .*backend=dict"),
        ("a.pth", b"\x08\x07\x12\x07pytorch", "an ONNX network"),
        ("a.pth", b"", "an empty file"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ("a.pth", b"<!DOCTYPE html>", "a web page"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a.pth", b"\x1f\x8b\x08", "a gzip archive"),
    ],
)
@pytest.mark.parametrize("read", [read_checkpoint, lambda path: convert_plain(path, path.with_name("b.pth"))])
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, name, content, cause, read):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: refused, .*{cause}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_arrays_of_numpy_are_called_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(1))
    with pytest.raises(CheckpointError, match=r"a\.npz: refused, arrays of NumPy"):
        read_checkpoint(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_names_the_command_that_reads_it(tmp_path, capsys):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    for read in (read_checkpoint, lambda one: convert_plain(one, tmp_path / "b.pth")):
        with pytest.raises(CheckpointError, match=r"program\.pt: refused, a TorchScript .*plain .*--trust-checkpoint`"):
            read(path)
    convert_plain(path, tmp_path / "b.pth", trusted=True)
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"].keys() == {"weight", "bias"}
    assert "runs the code" in capsys.readouterr().err


def test_a_backbone_starts_from_a_whole_detector(tmp_path):
    module = nn.Linear(3, 2, bias=False)
    torch.save({"state_dict": STATE}, tmp_path / "a.pth")
    CheckedPretrainedInit(str(tmp_path / "a.pth"))(module)
    assert torch.equal(module.weight.data, STATE["backbone.weight"])
    with pytest.raises(CheckpointError, match=r"a\.pth: no parameter of the checkpoint begins with 'neck\.'"):
        CheckedPretrainedInit(str(tmp_path / "a.pth"), prefix="neck")(module)


def test_a_prefix_that_a_wrapper_has_too_can_be_asked_for():
    assert state_of({"model.a": torch.ones(1), "model.b": torch.ones(1)}, "model").keys() == {"a", "b"}
