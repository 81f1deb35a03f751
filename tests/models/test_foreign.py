"""Reading pickled models: every tensor arrives, nothing foreign is imported, nothing at all is run."""

import argparse
import builtins
import datetime
import functools
import io
import os
import pickle
import re
import resource
import subprocess
import sys
import tarfile
import types
import warnings
import zipfile
from pathlib import Path

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


@pytest.mark.filterwarnings("error")
def test_every_tensor_is_read_without_its_package(foreign, gone, tmp_path):
    model = foreign.Model().half()
    expected = {name: value.float() for name, value in model.state_dict().items() if value.is_floating_point()}
    opt = {
        "save_dir": Path("runs"),
        "space": argparse.Namespace(a=1),
        "device": torch.device("cpu"),
        "names": {"a"},
        "frozen": frozenset({"a"}),
    }
    content = {"epoch": 3, "best_fitness": np.array([0.5]), "score": np.float64(0.1), "model": model, "ema": None}
    content |= {"opt": opt, "date": datetime.datetime(2021, 10, 12), "kind": torch.float16}
    torch.save(content, tmp_path / "a.pt")
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


def test_of_the_old_format_tensors_are_read_and_models_refused(foreign, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 1))
    opt = {"save_dir": Path("runs"), "fitness": np.array([0.5])}
    content = {"state_dict": module.state_dict(), "opt": opt}
    torch.save(content, tmp_path / "state.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_foreign_checkpoint(tmp_path / "state.pt")["0.weight"], module[0].weight)
    for number, model in enumerate((module, foreign.Model())):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Couldn't retrieve source")
            torch.save({"model": model}, tmp_path / f"{number}.pt", _use_new_zipfile_serialization=False)
        with pytest.raises(CheckpointError, match=r"refused, it names (torch\.nn|elsewhere)\..*before PyTorch 1\.6"):
            read_foreign_checkpoint(tmp_path / f"{number}.pt")


def test_a_tensor_comes_without_what_hangs_on_it(tmp_path):
    weight = torch.zeros(1000)[:2].requires_grad_()
    torch.save({"weight": weight}, tmp_path / "a.pt")
    read = read_foreign_checkpoint(tmp_path / "a.pt")["weight"]
    assert not read.requires_grad
    assert read.untyped_storage().nbytes() == 8


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def attacks(victim):
    """Ways to run something, each of which would make the folder ``victim``, and what a refusal has to name."""
    make = f"__import__('os').mkdir({str(victim)!r})"
    return {
        "posix.mkdir": Call(os.mkdir, str(victim)),
        "posix.system": Call(os.system, f"mkdir {victim}"),
        "builtins.eval": Call(eval, make),
        "builtins.exec": Call(exec, make),
        "builtins.getattr": Call(getattr, os.mkdir, "__call__"),
        "builtins.__import__": Call(__import__, "os"),
        "builtins.map": Call(map, os.mkdir, [str(victim)]),
        "subprocess.call": Call(subprocess.call, ["mkdir", str(victim)]),
        "subprocess.Popen": Call(subprocess.Popen, ["mkdir", str(victim)]),
        "functools.partial": Call(functools.partial, os.mkdir, str(victim)),
        "torch.serialization.load": Call(torch.load, str(victim)),
        "torch.storage._load_from_bytes": Call(torch.storage._load_from_bytes, b"x"),
        "torch.hub.load": Call(torch.hub.load, str(victim), "model", "local"),
        "numpy.load": Call(np.load, str(victim)),
        "torch.nn.functional.relu": Call(torch.nn.functional.relu, torch.ones(1)),
        "evil.module.run": Call(_evil, f"mkdir {victim}"),
    }


def _evil(*_):
    """Pickled as ``evil.module.run``, a function of a package that is not installed."""


@pytest.fixture
def evil(monkeypatch):
    module = types.ModuleType("evil.module")
    module.run = _evil
    monkeypatch.setattr(_evil, "__module__", "evil.module")
    monkeypatch.setattr(_evil, "__qualname__", "run")
    monkeypatch.setitem(sys.modules, "evil", types.ModuleType("evil"))
    monkeypatch.setitem(sys.modules, "evil.module", module)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", attacks("x"))
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_malicious_file_does_nothing_but_raise(tmp_path, foreign, evil, attack, zipped, nested):
    victim = tmp_path / "victim"
    call = attacks(victim)[attack]
    model = foreign.Model()
    content = {"model": model, "extra": call}
    if nested:
        model.extra = call
        content = {"model": model}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    # of the old format, the model is refused already
    wanted = rf"\S*{re.escape(attack)}$" if zipped else ""
    with pytest.raises(CheckpointError, match=rf"evil\.pt: refused, it (names|calls) {wanted}") as caught:
        read_foreign_checkpoint(tmp_path / "evil.pt")
    assert "\n" not in str(caught.value)
    assert not victim.exists()


def old_format(code):
    """``code`` where torch's old format has its content: after three values, before the keys of storages."""
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    values = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, info)
    return b"".join(pickle.dumps(value, 2) for value in values) + code + pickle.dumps([], 2)


def archive(code, kind=zipfile.ZIP_STORED, **entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        file.writestr("archive/data.pkl", code)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        for name, content in entries.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def text(value):
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


STATE = b"}" + text("__code__") + b"K\x01s"


@pytest.mark.parametrize("wrap", [archive, old_format])
@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (b"cevil\nrun\n(" + text("x") + b"tR.", "it calls evil.run"),
        (b"\x80\x02cevil\nrun\n" + text("x") + b"\x85\x81.", "it calls evil.run"),  # NEWOBJ
        (b"(S'touch victim'\nios\nsystem\n.", "operand"),  # INST
        (b"(cos\nsystem\nX\x01\0\0\0xo.", "operand"),  # OBJ
        (b"(S'touch victim'\nievil\nrun\n.", "operand"),
        (b"(cevil\nrun\nX\x01\0\0\0xo.", "operand"),
        (b"\x80\x02cevil\nrun\n)}\x8c\x01aK\x01s\x92.", "operand"),  # NEWOBJ_EX
        (b"\x80\x02\x82\x01.", "operand"),  # EXT1
        (b"\x80\x02\x83\x01\x01.", "operand"),  # EXT2
        (text("os") + text("system") + b"\x93" + text("x") + b"\x85R.", "operand"),  # STACK_GLOBAL
        (b"ctorch._utils\n_rebuild_tensor_v2\n" + STATE + b"b.", "Can only build"),  # BUILD on a function
        (b"ctorch._utils\n_rebuild_tensor_v2\n(N" + STATE + b"tb.", "Can only build"),
        (b"cevil\nrun\n(N" + STATE + b"tb.", "Can only build"),  # on a stand-in
        (b"ccollections\nOrderedDict\n(N" + STATE + b"tb.", "Can only build"),
        (b"ctorch\nSize\n(N" + STATE + b"tb.", "Can only build"),
        (b"]}b.", "Can only build"),  # on a list
        (b"Pos\n.", "operand"),  # persistent ids
        (b"(" + text("other") + text("os") + b"tQ.", "Only persistent_load of storage"),
        (b"(" + text("module") + b"cevil\nrun\ntQ.", "Only persistent_load of storage"),
        (b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.", "it names builtins.object"),
        (b"ccopyreg\n__newobj__\n(cevil\nrun\n" + text("x") + b"tR.", "it names copyreg.__newobj__"),
        (b"cbuiltins\nset.__subclasses__\n)R.", "it names builtins.set.__subclasses__"),
        (b"ctorch.nn\nos.system\n(" + text("x") + b"tR.", "it calls torch.nn.os.system"),
        (
            b"ctorch._tensor\n_rebuild_from_type_v2\n(cevil\nrun\nctorch\nTensor\n" + text("x") + b"\x85}tR.",
            "it calls evil.run",
        ),
        (b"celsewhere\nA.B.__globals__\n.", "holds no model"),
    ],
    ids=range(25),
)
def test_hand_written_opcodes_are_refused(tmp_path, monkeypatch, code, cause, wrap):
    monkeypatch.chdir(tmp_path)
    Path("evil.pt").write_bytes(wrap(code))
    before = torch._utils._rebuild_tensor_v2.__dict__.copy()
    cause = re.escape(cause) if wrap is archive else ""  # the old format has no stand-ins, which change the cause
    with pytest.raises(CheckpointError, match=rf"evil\.pt: .*{cause}") as caught:
        read_foreign_checkpoint("evil.pt")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]
    assert torch._utils._rebuild_tensor_v2.__dict__ == before
    assert not {"evil", "elsewhere"} & set(sys.modules)


def tensor_of(numel, size, stride):
    """A pickle of {"model": {"w": tensor}} over a half storage of ``numel`` values."""

    def put(value):
        return pickle.dumps(value, 2)[2:-1]

    storage = b"(" + put("storage") + b"ctorch\nHalfStorage\n" + put("0") + put("cpu") + put(numel) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + put(0) + put(size) + put(stride) + b"\x89NtR"
    return b"\x80\x02}" + put("model") + b"}" + put("w") + tensor + b"ss."


@pytest.mark.parametrize(
    ("numel", "size", "stride", "cause"),
    [
        (10, (10**13,), (0,), "larger than the file"),
        (10, (10**13,), (1,), "resize"),
        (10, (2,), (10**12,), "resize"),
        (10**9, (10**9,), (1,), "damaged"),
        (10, (-1,), (1,), "damaged"),
    ],
)
def test_a_tensor_is_no_larger_than_what_the_file_has(tmp_path, numel, size, stride, cause):
    (tmp_path / "a.pt").write_bytes(archive(tensor_of(numel, size, stride), **{"data/0": bytes(20)}))
    with pytest.raises(CheckpointError, match=rf"a\.pt: .*{cause}"):
        read_foreign_checkpoint(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(archive(tensor_of(10, (2, 5), (5, 1)), **{"data/0": bytes(20)}))
    assert read_foreign_checkpoint(tmp_path / "b.pt")["w"].shape == (2, 5)


MODEL = b"\x80\x02cevil\nM\n)\x81q\x00}"


@pytest.mark.parametrize(
    "code",
    [
        MODEL + b"X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb.",  # a layer within itself
        MODEL + b"X\x0b\x00\x00\x00_parameters](K\x01K\x02esb.",
        MODEL + b"X\x08\x00\x00\x00_modules}K\x01K\x02ssb.",
        b"ccollections\nOrderedDict\n)R}" + text("get") + b"ctorch._utils\n_rebuild_tensor\nsb.",
    ],
    ids=["cycle", "list", "names", "get"],
)
def test_a_strange_model_is_one_line(tmp_path, code):
    (tmp_path / "a.pt").write_bytes(archive(code))
    with pytest.raises(CheckpointError, match=r"a\.pt: (damaged|holds no model)"):
        read_foreign_checkpoint(tmp_path / "a.pt")


def test_layers_shared_again_and_again_are_read_once(tmp_path):
    layer = nn.Conv2d(1, 1, 1)
    for _ in range(60):
        layer = nn.Sequential(layer, layer)
    torch.save(layer, tmp_path / "a.pt")
    assert list(read_foreign_checkpoint(tmp_path / "a.pt")) == [
        ".".join("0" * 60) + name for name in (".weight", ".bias")
    ]


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    (tmp_path / "bomb.pt").write_bytes(archive(b"\x80\x02" + b"N0" * 10**6 + b"}.", zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match=r"bomb\.pt: refused, a compressed archive"):
        read_foreign_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize("first", ["storages", "\udc80"])
def test_a_tar_of_the_oldest_format_is_not_unpacked(tmp_path, first):
    """Its pipe would keep the reader waiting."""
    with tarfile.open(tmp_path / "a.pt", "w") as file:
        if first != "storages":
            file.addfile(tarfile.TarInfo(first))
        pipe = tarfile.TarInfo("storages")
        pipe.type = tarfile.FIFOTYPE
        file.addfile(pipe)
    with pytest.raises(CheckpointError, match=r"a\.pt: damaged"):
        read_foreign_checkpoint(tmp_path / "a.pt")


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


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path, stored):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    if stored:
        with zipfile.ZipFile(path) as file:
            content = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, data in content.items():
                file.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"program\.pt: refused, .*TorchScript program"):
        read_foreign_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_s_number_asks_for_no_memory(tmp_path, zipped):
    """Found by ``make fuzz``: 3 GB for a file of 1 kB."""
    code = b"\x80\x02}r" + (2**28).to_bytes(4, "little") + b"."
    (tmp_path / "a.pt").write_bytes(archive(code) if zipped else old_format(code))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"a\.pt: holds no model"):
        read_foreign_checkpoint(tmp_path / "a.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kB
