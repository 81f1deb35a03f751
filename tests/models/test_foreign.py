"""Reading pickled models: every tensor arrives, nothing foreign is imported, nothing at all is run."""

import builtins
import functools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from covidmm.errors import CheckpointError
from covidmm.models.foreign import read_foreign_checkpoint


@pytest.fixture
def foreign(monkeypatch):
    """A package that exists while files are written and is gone, a trap in its place, when they are read."""
    package, module = types.ModuleType("elsewhere"), types.ModuleType("elsewhere.models")

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.bn = nn.BatchNorm2d(4)
            self.names = ["opacity"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model = nn.Sequential(Block(), Block())
            self.register_buffer("anchors", torch.ones(2))

    for kind in (Block, Model):
        kind.__module__, kind.__qualname__ = "elsewhere.models", kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "elsewhere", package)
    monkeypatch.setitem(sys.modules, "elsewhere.models", module)
    return module


@pytest.fixture
def gone(monkeypatch):
    """Importing anything is a failure."""

    def forget():
        for name in ("elsewhere", "elsewhere.models"):
            monkeypatch.delitem(sys.modules, name)

        def refuse(name, *args, **kwargs):
            if name.startswith("elsewhere"):
                pytest.fail(f"{name} was imported")
            return imported(name, *args, **kwargs)

        imported = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", refuse)

    return forget


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_every_tensor_is_read_without_its_package(foreign, gone, tmp_path, zipped):
    model = foreign.Model().half()
    expected = {name: value.float() for name, value in model.state_dict().items() if value.is_floating_point()}
    content = {"epoch": 3, "best_fitness": np.array([0.5]), "score": np.float64(0.1), "model": model, "ema": None}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    gone()
    state = read_foreign_checkpoint(tmp_path / "a.pt")
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    assert floats.keys() == expected.keys()
    assert all(torch.equal(floats[name], expected[name]) for name in expected)
    assert floats["anchors"].dtype == torch.float32


def test_averaged_weights_are_preferred(foreign, tmp_path):
    model, average = foreign.Model(), foreign.Model()
    nn.init.constant_(average.model[0].conv.weight, 7)
    torch.save({"model": model, "ema": average}, tmp_path / "a.pt")
    assert read_foreign_checkpoint(tmp_path / "a.pt")["model.0.conv.weight"].unique().tolist() == [7]


def test_a_bare_model_and_a_plain_state_dict_are_read_too(foreign, tmp_path):
    model = foreign.Model()
    torch.save(model, tmp_path / "bare.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    assert read_foreign_checkpoint(tmp_path / "bare.pt").keys() == read_foreign_checkpoint(tmp_path / "state.pt").keys()


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def attacks(victim):
    """Ways to run something, each of which would make the folder ``victim``."""
    make = f"__import__('os').mkdir({str(victim)!r})"
    return {
        "os.mkdir": Call(os.mkdir, str(victim)),
        "os.system": Call(os.system, f"mkdir {victim}"),
        "eval": Call(eval, make),
        "exec": Call(exec, make),
        "getattr": Call(getattr, os.mkdir, "__call__"),
        "__import__": Call(__import__, "os"),
        "subprocess": Call(subprocess.call, ["mkdir", str(victim)]),
        "partial": Call(functools.partial, os.mkdir, str(victim)),
        "map": Call(map, os.mkdir, [str(victim)]),
        "torch.load": Call(torch.load, str(victim)),
        "torch.hub": Call(torch.hub.load, "a/b", "c"),
        "numpy": Call(np.load, str(victim)),
        "apply": Call(torch.nn.functional.relu, torch.ones(1)),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", attacks("x"))
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_malicious_file_does_nothing_but_raise(tmp_path, foreign, attack, zipped, nested):
    victim = tmp_path / "victim"
    evil = attacks(victim)[attack]
    model = foreign.Model()
    content = {"model": model, "extra": evil}
    if nested:
        model.extra = evil
        content = {"model": model}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pt: (refused|damaged)") as caught:
        read_foreign_checkpoint(tmp_path / "evil.pt")
    assert "\n" not in str(caught.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cevil\nrun\n(S'x'\ntR.",  # GLOBAL, REDUCE with an argument: a function of an unknown package
        b"(S'touch victim'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch victim'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__code__'\nI1\ns\x86b.",  # BUILD on a function
        b"\x80\x02]\x94}\x94b.",  # BUILD on a list
        b"Pos\n.",  # persistent id
        b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nlist\ncbuiltins\nobject\nNtR.",
        b"celsewhere\nA.B.__globals__\n.",
        b"cbuiltins\nlist.__subclasses__\n)R.",
    ],
    ids=range(12),
)
def test_hand_written_opcodes_are_refused(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    import zipfile

    with zipfile.ZipFile("evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    defaults = torch._utils._rebuild_tensor_v2.__dict__.copy()
    with pytest.raises(CheckpointError, match=r"evil\.pt: "):
        read_foreign_checkpoint("evil.pt")
    assert not (tmp_path / "victim").exists()
    assert torch._utils._rebuild_tensor_v2.__dict__ == defaults


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt: .*damaged|a\.pt: holds no model") as caught:
        read_foreign_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_line(foreign, tmp_path):
    torch.save({"model": foreign.Model()}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"a\.pt: "):
        read_foreign_checkpoint(tmp_path / "a.pt")


def test_a_missing_file_and_one_without_a_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_foreign_checkpoint(tmp_path / "none.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="holds no model"):
        read_foreign_checkpoint(tmp_path / "empty.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_foreign_checkpoint(tmp_path / "program.pt")
