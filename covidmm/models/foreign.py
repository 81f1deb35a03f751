"""Tensors out of pickled models of other packages, without executing them and without those packages.

A published YOLOv5 checkpoint is a pickle of a whole model: reading it the usual way imports and runs what the
file names. Here every foreign class becomes an inert stub, and whatever else the file wants to call is refused.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from covidmm.errors import CheckpointError


class RefusedError(CheckpointError):
    """A checkpoint that could only be read by running what it holds."""


class _Refused(pickle.UnpicklingError):
    """The file asks for something that no model needs."""


class _Stub:
    """Stands for an instance of a foreign class: holds its state and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Stub:
        if args or kwargs:
            # a module is pickled as a bare object and its state; arguments mean that a function is to be called
            raise _Refused(f"it calls {cls.__module__}.{cls.__qualname__}")
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)


class _Ignored(_Stub):
    """Stands for a harmless value that a checkpoint's other entries may hold, whatever its arguments."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Ignored:
        return object.__new__(cls)


class _Real:
    """A function that the file may call. Nothing can be set on it, so that a file cannot change it for others."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"it sets '{name}' of a function")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it sets the state of a function")


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    # without this, torch enlarges the storage to whatever the file asks for
    end = offset + 1 + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if 0 not in size and end * storage.dtype.itemsize > storage._untyped_storage.nbytes():
        raise _Refused("a tensor reaches beyond its storage")
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _reconstruct(cls: type, base: type, state: Any) -> _Stub:
    if base is not object or state is not None:
        raise _Refused("it reconstructs something other than a plain object")
    return _new_object(cls)


def _new_object(cls: type, *args: Any) -> _Stub:
    if not (isinstance(cls, type) and issubclass(cls, _Stub)):
        raise _Refused("it reconstructs something other than a plain object")
    return cls(*args)


_REAL = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": torch.Size,
    "torch._utils._rebuild_tensor": _Real(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": _Real(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _Real(_rebuild_parameter),
    **{f"torch.{name}": kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)},
    "copyreg._reconstructor": _Real(_reconstruct),
    "copyreg.__newobj__": _Real(_new_object),
    **{f"builtins.{kind.__name__}": kind for kind in (object, set, frozenset)},
}
_IGNORED = {
    "_codecs.encode",
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    "torch.device",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"pathlib.{kind}{name}" for kind in ("", "Pure") for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
}
#: Packages whose other names are refused. Of torch, only the layers are stubs.
_GUARDED = {*sys.stdlib_module_names, "torch", "numpy"}


class _Unpickler(pickle.Unpickler):
    """Imports nothing."""

    def __init__(self, file: Any, **kwargs: Any) -> None:
        super().__init__(file, **kwargs)
        self._file = file
        self._stubs: dict[str, type] = {}

    def load(self) -> Any:
        _require_small_memo(self._file)
        return super().load()

    def __setattr__(self, name: str, value: Any) -> None:
        # torch sets its own; the one of its old format compares the source of each layer with what is installed
        super().__setattr__(name, _without_source(value) if name == "persistent_load" else value)

    def find_class(self, module: str, name: str) -> Any:
        # protocol 2, which torch writes, has the names of Python 2: commands for subprocess
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if full in _REAL:
            return _REAL[full]
        foreign = module.split(".", maxsplit=1)[0] not in _GUARDED or f"{module}.".startswith("torch.nn.")
        if not foreign and full not in _IGNORED:
            raise _Refused(f"it names {full}")
        if full not in self._stubs:
            base = _Stub if foreign else _Ignored
            self._stubs[full] = type(name.rpartition(".")[2], (base,), {"__module__": module, "__qualname__": name})
        return self._stubs[full]


def _require_small_memo(file: Any) -> None:
    """Refuse a pickle that gives an object a number so high that Python would make gigabytes of room for the others."""
    start = file.tell()
    for opcode, argument, place in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > place:
            raise _Refused("it numbers more objects than it has bytes")
    file.seek(start)


def _without_source(resolve: Any) -> Any:
    def persistent_load(saved: Any) -> Any:
        return saved[1] if isinstance(saved, tuple) and saved[:1] == ("module",) else resolve(saved)

    return persistent_load


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


#: What :func:`torch.load` needs of a pickle module.
_PICKLE = SimpleNamespace(__name__="covidmm.models.foreign", Unpickler=_Unpickler, load=_load)


def read_foreign_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of the model in a checkpoint file, by the names of its own package.

    The averaged weights under ``ema`` are preferred to ``model`` where a training checkpoint holds both, as
    they are what its authors evaluate and publish.

    Returns:
        Floating-point tensors as float32, counters as they are; each with memory of its own.

    Raises:
        RefusedError: naming a function or an object that is not a layer.
        CheckpointError: missing or damaged, or without a model.
        OSError: the file may not be read.
    """
    path, data = _content(path)
    try:
        state = _read(data)
    except _Refused as error:
        raise RefusedError(f"{path}: refused, {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        cause = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path}: damaged checkpoint ({type(error).__name__}: {cause})") from error
    if not state:
        raise CheckpointError(f"{path}: holds no model")
    return state


def read_trusted_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """As :func:`read_foreign_checkpoint`, by unpickling: **this runs what whoever made the file put into it.**

    It says so on stderr first, with the file's SHA-256. Nothing but ``tools/convert_checkpoint.py --trust-checkpoint``
    calls it.

    Raises:
        CheckpointError: missing, without a model, or one that this environment cannot unpickle.
        OSError: the file may not be read.
    """
    path, data = _content(path)
    print(
        f"warning: --trust-checkpoint: unpickling {path} (sha256 {hashlib.sha256(data).hexdigest()}) runs the code of "
        "whoever made it, with all that you may do",
        file=sys.stderr,
        flush=True,
    )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:
        cause = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path}: cannot be unpickled here ({type(error).__name__}: {cause})") from error
    model = _model_in(content)
    state = model.state_dict() if isinstance(model, nn.Module) else model
    if not isinstance(state, Mapping) or not (found := _state_of(state)):
        raise CheckpointError(f"{path}: holds no model")
    return {name: _plain(value) for name, value in found.items()}


def _content(path: str | Path) -> tuple[Path, bytes]:
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    return path, path.read_bytes()


def _read(data: bytes) -> dict[str, Tensor]:
    if data.startswith(b"PK\x03\x04"):
        _inspect_archive(data)
    elif not data.startswith(b"\x80"):
        raise pickle.UnpicklingError("not written by torch.save")
    # from memory: torch takes a real file for a tar of its oldest format too, and unpacks that onto the disk
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False, pickle_module=_PICKLE)
    state = _state_of(_model_in(content))
    # overlapping tensors could otherwise ask for more memory than any machine has
    if sum(value.numel() * value.element_size() for value in state.values()) > len(data):
        raise _Refused("its tensors are larger than the file")
    return {name: _plain(value) for name, value in state.items()}


def _inspect_archive(data: bytes) -> None:
    """Refuse what ``torch.load`` would hand to a loader without restrictions, or unpack without bounds."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > len(data)
    ):
        raise _Refused("a compressed archive or a TorchScript program, not a training checkpoint")
    # torch's own reader, because it decides by the names that it sees
    if "constants.pkl" in torch._C.PyTorchFileReader(io.BytesIO(data)).get_all_records():
        raise _Refused("a TorchScript program, not a training checkpoint")


def _model_in(content: Any) -> Any:
    if isinstance(content, Mapping):
        for key in ("ema", "model", "state_dict"):
            if content.get(key) is not None:
                return content[key]
    return content


def _state_of(model: Any) -> dict[str, Tensor]:
    """Flatten a stub of a torch module, or a state dict, to names and tensors."""
    if isinstance(model, Mapping):
        return {str(name): value for name, value in model.items() if isinstance(value, Tensor)}
    state: dict[str, Tensor] = {}
    for prefix, layer in _layers_of(model):
        for kind in ("_parameters", "_buffers"):
            for name, value in (vars(layer).get(kind) or {}).items():
                if isinstance(value, Tensor):
                    state[f"{prefix}{name}"] = value
    return state


def _layers_of(model: Any) -> Iterator[tuple[str, _Stub]]:
    """Every layer with the prefix of its names, parents first. One that appears twice, as activations do, once."""
    waiting, seen = [("", model)], set()
    while waiting:
        prefix, layer = waiting.pop()
        if isinstance(layer, _Stub) and id(layer) not in seen:
            seen.add(id(layer))
            yield prefix, layer
            children = (vars(layer).get("_modules") or {}).items()
            waiting += [(f"{prefix}{name}.", child) for name, child in reversed(children)]


def _plain(value: Tensor) -> Tensor:
    """A copy without what the file may have hung on the tensor."""
    kind = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(kind, copy=True, memory_format=torch.contiguous_format)
