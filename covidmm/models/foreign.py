"""Tensors out of pickled models of other packages, without executing them and without those packages.

A published YOLOv5 checkpoint is a pickle of a whole model: reading it the usual way imports and runs what the file
names. Here PyTorch reads it with weights only, and an inert class stands in for each layer that it names; any other
function that it calls is refused.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from covidmm.errors import CheckpointError


class RefusedError(CheckpointError):
    """A checkpoint that could only be read by running what it holds."""


class _Layer:
    """Stands in for a layer, which is pickled as a bare object and its state. It holds the state and does nothing."""

    def __new__(cls, *args: Any) -> _Layer:
        if args:  # a function is to be called
            raise RefusedError(f"it calls {cls.__module__}.{cls.__qualname__}")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)


class _Ignored(_Layer):
    """Stands in for a harmless value that a checkpoint's other entries may hold, whatever its arguments."""

    def __new__(cls, *args: Any) -> _Ignored:
        return object.__new__(cls)


_IGNORED = {
    "argparse.Namespace",
    "builtins.frozenset",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"pathlib.{kind}{name}" for kind in ("", "Pure") for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
}
#: Packages of which nothing else is a layer, but for torch.nn.
_GUARDED = {*sys.stdlib_module_names, "torch", "numpy"}


def read_foreign_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of the model in a checkpoint file, by the names of its own package.

    The averaged weights under ``ema`` are preferred to ``model`` where a training checkpoint holds both, as
    they are what its authors evaluate and publish. A file in the format of PyTorch before 1.6 may hold a state dict,
    but no whole model.

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
    except RefusedError as error:
        raise RefusedError(f"{path}: refused, {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path}: damaged checkpoint ({_cause(error)})") from error
    if not state:
        raise CheckpointError(f"{path}: holds no model")
    return state


def read_trusted_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """As :func:`read_foreign_checkpoint`, by unpickling: **this runs the code in the file.**

    It says so on stderr first, with the file's SHA-256. Nothing but ``tools/convert_checkpoint.py --trust-checkpoint``
    calls it.

    Raises:
        CheckpointError: missing, without a model, or one that this environment cannot unpickle.
        OSError: the file may not be read.
    """
    path, data = _content(path)
    print(
        f"warning: --trust-checkpoint: unpickling {path} (sha256 {hashlib.sha256(data).hexdigest()}) runs the code of "
        "its author, with all your permissions",
        file=sys.stderr,
        flush=True,
    )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be unpickled here ({_cause(error)})") from error
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
    zipped = data.startswith(b"PK\x03\x04")
    if zipped:
        _inspect_archive(data)
    # torch lists no names of its older format
    names = sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(data)) if zipped else _IGNORED)
    try:
        with safe_globals([(_stand_in(name), name) for name in names]):
            # from memory: a real file could be a tar of torch's oldest format too
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise RefusedError(
                f"it names {named[1]}; of files in the format before PyTorch 1.6 tensors alone are read"
            ) from error
        raise
    state = _state_of(_model_in(content))
    # overlapping tensors could otherwise ask for more memory than any machine has
    if sum(value.numel() * value.element_size() for value in state.values()) > len(data):
        raise RefusedError("its tensors are larger than the file")
    return {name: _plain(value) for name, value in state.items()}


def _inspect_archive(data: bytes) -> None:
    """Refuse what torch would unpack without bounds."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise RefusedError("a TorchScript program, not a training checkpoint")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > len(data)
    ):
        raise RefusedError("a compressed archive, not a training checkpoint")


def _stand_in(full: str) -> type[_Layer]:
    """An inert class for a name in a pickle.

    Raises:
        RefusedError: the name is neither a layer's nor a harmless value's.
    """
    module, _, name = full.rpartition(".")
    module = IMPORT_MAPPING.get(module, module)  # torch writes the names of Python 2: 'commands' for subprocess
    layer = module.split(".")[0] not in _GUARDED or f"{module}.".startswith("torch.nn.")
    if not layer and full not in _IGNORED:
        raise RefusedError(f"it names {module}.{name}")
    return type(name, (_Layer if layer else _Ignored,), {"__module__": module, "__qualname__": name})


def _cause(error: Exception) -> str:
    """An error in one line, without the advice that torch puts around it."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    return f"{type(error).__name__}: {(text.strip().splitlines() or [''])[0]}"


def _model_in(content: Any) -> Any:
    if isinstance(content, Mapping):
        for key in ("ema", "model", "state_dict"):
            if content.get(key) is not None:
                return content[key]
    return content


def _state_of(model: Any) -> dict[str, Tensor]:
    """Flatten a stand-in of a torch module, or a state dict, to names and tensors."""
    if isinstance(model, Mapping):
        return {str(name): value for name, value in model.items() if isinstance(value, Tensor)}
    return {
        f"{prefix}{name}": value
        for prefix, layer in _layers_of(model)
        for kind in ("_parameters", "_buffers")
        for name, value in (vars(layer).get(kind) or {}).items()
        if isinstance(value, Tensor)
    }


def _layers_of(model: Any) -> Iterator[tuple[str, _Layer]]:
    """Every layer with the prefix of its names, parents first. One that appears twice, as activations do, once."""
    waiting, seen = [("", model)], set()
    while waiting:
        prefix, layer = waiting.pop()
        if isinstance(layer, _Layer) and id(layer) not in seen:
            seen.add(id(layer))
            yield prefix, layer
            children = (vars(layer).get("_modules") or {}).items()
            waiting += [(f"{prefix}{name}.", child) for name, child in reversed(children)]


def _plain(value: Tensor) -> Tensor:
    """A copy without attributes that the file may have set."""
    kind = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to("cpu", kind, copy=True, memory_format=torch.contiguous_format)
