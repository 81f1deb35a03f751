"""Tensors out of pickled models of other packages, without executing them and without those packages.

A published YOLOv5 checkpoint is a pickle of a whole model: reading it the usual way imports and runs what the
file names. Here every foreign class becomes an inert stub, and whatever else the file wants to call is refused.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from covidmm.errors import CheckpointError


class _Stub:
    """Stands for an instance of a foreign class: holds its state and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Stub:
        if args or kwargs:
            # a module is pickled as a bare object and its state; arguments mean that a function is to be called
            raise pickle.UnpicklingError(f"it calls {cls.__module__}.{cls.__qualname__}")
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
        raise pickle.UnpicklingError(f"it sets '{name}' of a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a function")


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _reconstruct(cls: type, base: type, state: Any) -> _Stub:
    if not (isinstance(cls, type) and issubclass(cls, _Stub)) or base is not object or state is not None:
        raise pickle.UnpicklingError("it reconstructs something other than a plain object")
    return object.__new__(cls)


_REAL = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": torch.Size,
    "torch._utils._rebuild_tensor": _Real(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": _Real(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _Real(_rebuild_parameter),
    "copyreg._reconstructor": _Real(_reconstruct),
    "copy_reg._reconstructor": _Real(_reconstruct),
    **{
        f"torch.{name}": getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64", "int64", "bool")
    },
    **{
        f"{module}.{kind.__name__}": kind
        for module in ("builtins", "__builtin__")
        for kind in (object, set, frozenset, list, dict, tuple, int, float, bool, str, bytes, complex, slice)
    },
}
_IGNORED = {
    "_codecs.encode",
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"pathlib.{kind}{name}" for kind in ("", "Pure") for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
}
#: Packages whose other names are refused. Of torch, only the layers are stubs.
_GUARDED = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "torch", "numpy"}


class _Unpickler(pickle.Unpickler):
    """Imports nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stubs: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _REAL:
            return _REAL[full]
        foreign = module.split(".", maxsplit=1)[0] not in _GUARDED or module.startswith("torch.nn.")
        if not foreign and full not in _IGNORED:
            raise pickle.UnpicklingError(f"it names {full}")
        if full not in self._stubs:
            base = _Stub if foreign else _Ignored
            self._stubs[full] = type(name.rpartition(".")[2], (base,), {"__module__": module, "__qualname__": name})
        return self._stubs[full]


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


#: What :func:`torch.load` needs of a pickle module.
_PICKLE = SimpleNamespace(__name__="covidmm.models.foreign", Unpickler=_Unpickler, load=_load)


def read_foreign_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of the model in a checkpoint file, in float32, by the names of its own package.

    The averaged weights under ``ema`` are preferred to ``model`` where a training checkpoint holds both, as
    they are what its authors evaluate and publish.

    Raises:
        CheckpointError: missing or damaged; naming a function or an object that is not a layer; without a model.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    _refuse_torchscript(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused or damaged ({error})") from error
    except Exception as error:  # a damaged pickle can raise anything
        cause = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path}: damaged checkpoint ({type(error).__name__}: {cause})") from error
    state = _state_of(_model_in(content))
    if not state:
        raise CheckpointError(f"{path}: holds no model")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _refuse_torchscript(path: Path) -> None:
    """``torch.load`` would hand a TorchScript archive to a loader that knows no restrictions."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise CheckpointError(f"{path}: damaged checkpoint ({error})") from error
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(f"{path}: refused, a TorchScript program; convert the training checkpoint")


def _model_in(content: Any) -> Any:
    if isinstance(content, Mapping):
        for key in ("ema", "model", "state_dict"):
            if content.get(key) is not None:
                return content[key]
    return content


def _state_of(model: Any, prefix: str = "") -> dict[str, Tensor]:
    """Flatten a stub of a torch module, or a state dict, to names and tensors."""
    if isinstance(model, Mapping):
        return {str(name): value for name, value in model.items() if isinstance(value, Tensor)}
    state: dict[str, Tensor] = {}
    attributes = vars(model) if isinstance(model, _Stub) else {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (attributes.get(kind) or {}).items():
            if isinstance(value, Tensor):
                state[prefix + name] = value
    for name, child in (attributes.get("_modules") or {}).items():
        if isinstance(child, _Stub):
            state |= _state_of(child, f"{prefix}{name}.")
    return state
