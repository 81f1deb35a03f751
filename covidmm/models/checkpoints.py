"""Find checkpoints, read them safely, and check how much of a model they fill.

Importing this module replaces three of MMEngine's parts, for every config: files and downloads are read with
``weights_only=True`` and never unpickled otherwise, and the ``Pretrained`` initializer refuses a checkpoint
that fills too little of the module. It adds the scheme ``covidmm://NAME``.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from covidmm.errors import CheckpointError
from covidmm.models.file_kinds import is_safetensors, require_checkpoint
from covidmm.models.numpy_values import STAND_INS
from covidmm.models.state_dicts import state_of
from covidmm.utils.projects import store_folder

STORE_VARIABLE = "COVIDMM_CHECKPOINTS"
STORE_SCHEME = "covidmm://"

#: What is read of a checkpoint's ``meta``, and of what kind it is.
_META = {"val_metrics": dict, "dataset_meta": dict, "cfg": str, "provenance": dict, "training_images": Tensor}
#: Where ``meta`` keeps the keys of the images that trained a model, see :mod:`covidmm.engine.training_images`.
TRAINING_IMAGES = "training_images"

#: Share of a model's parameters below which a checkpoint is taken to belong to another model.
MINIMUM_SHARE = 0.95


def checkpoint_store() -> Path:
    """The folder that ``covidmm://`` names are looked up in.

    ``COVIDMM_CHECKPOINTS``, else ``checkpoints/`` of the working directory or its project, else in the user's cache.
    """
    named = os.environ.get(STORE_VARIABLE)
    return Path(named).expanduser() if named else store_folder()


def checkpoint_file(name: str) -> Path:
    """The file that ``covidmm://NAME`` or a plain path stands for.

    Raises:
        CheckpointError: the store has none of that name.
    """
    if not name.startswith(STORE_SCHEME):
        return Path(name).expanduser()
    path = checkpoint_store() / f"{name.removeprefix(STORE_SCHEME)}.pth"
    if not path.is_file():
        raise CheckpointError(
            f"{name}: no {path}; train and publish it, or point {STORE_VARIABLE} at the folder that has it"
        )
    return path


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file with weights only: tensors and plain values, nothing is executed.

    Raises:
        CheckpointError: missing, damaged, or holding objects that only unpickling could make.
        OSError: the file may not be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    require_checkpoint(path)
    if is_safetensors(path):
        return {"state_dict": _safetensors(path)}
    try:
        with torch.serialization.safe_globals(_harmless_types()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds {found.group(1)}" if found else "it is damaged or holds foreign objects"
        raise CheckpointError(
            f"{path}: refused, cannot be read with weights only ({what}); "
            f"`tools/convert_checkpoint.py plain {shlex.quote(str(path))} OUT.pth` takes the tensors out"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything, an OSError too
        raise CheckpointError(f"{path}: damaged checkpoint ({_first_line(error)})") from error
    return _inert(content, str(path))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({error})") from error


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's loader of plain paths, without its fall-back to unsafe unpickling."""
    return _with_state(read_checkpoint(filename, map_location), filename)


@CheckpointLoader.register_scheme(prefixes=STORE_SCHEME, force=True)
def load_from_store(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of ``covidmm://NAME``, which a model starts from: ``NAME.pth`` in the checkpoint store."""
    try:
        path = checkpoint_file(filename)
    except CheckpointError as error:
        advice = "start from other weights: --cfg-options pretrained=imagenet, or none"
        raise CheckpointError(f"{error}, or {advice}") from error
    return _with_state(read_checkpoint(path, map_location), filename)


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of web addresses, through torch.hub's cache and with weights only."""
    try:
        content = torch.hub.load_state_dict_from_url(filename, map_location=map_location, weights_only=True)
    except Exception as error:  # as above, and any answer of a server
        raise CheckpointError(f"{filename}: {_first_line(error)}") from error
    return _with_state(_inert(content, filename), filename)


@CheckpointLoader.register_scheme(prefixes="torchvision://", force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of ``torchvision://MODEL``: torchvision's ImageNet weights of that name."""
    name = filename.removeprefix("torchvision://")
    addresses = mmengine_checkpoint.get_torchvision_models()
    if name not in addresses:
        raise CheckpointError(f"{filename}: torchvision has no weights named '{name}'")
    return load_from_http(addresses[name], map_location)


@CheckpointLoader.register_scheme(prefixes="modelzoo://", force=True)
def load_from_modelzoo(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's old name of ``torchvision://``."""
    return load_from_torchvision(f"torchvision://{filename.removeprefix('modelzoo://')}", map_location)


_UNSAFE = ("pavi://", "openmmlab://", "open-mmlab://", "mmcls://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://")


@CheckpointLoader.register_scheme(prefixes=_UNSAFE, force=True)
def refuse_unsafe(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine unpickles what these schemes bring; covidmm does not read them.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(
        f"{filename}: refused, MMEngine would unpickle it; download it and give its path, a web address, "
        "torchvision://NAME or covidmm://NAME"
    )


@dataclass(frozen=True)
class Coverage:
    """How much of a model a state dict fills. Counts are of parameter and buffer elements."""

    filled: int
    total: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def share(self) -> float:
        """Filled elements over all elements, 0..1."""
        return self.filled / self.total if self.total else 1.0

    def __str__(self) -> str:
        text = f"{self.share:.1%} of {self.total:,} values filled"
        for label, names in (
            ("missing", self.missing),
            ("of another shape", self.mismatched),
            ("left over", self.unused),
        ):
            if names:
                text += f", {len(names)} {label} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        return text


def coverage(model_state: Mapping[str, Tensor], checkpoint_state: Mapping[str, Tensor]) -> Coverage:
    """Compare a model's state dict with a checkpoint's, name by name and shape by shape."""
    shapes = {name: value.shape for name, value in checkpoint_state.items() if isinstance(value, Tensor)}
    fits = {name for name, value in model_state.items() if shapes.get(name) == value.shape}
    return Coverage(
        filled=sum(model_state[name].numel() for name in fits),
        total=sum(value.numel() for value in model_state.values()),
        missing=tuple(name for name in model_state if name not in shapes),
        mismatched=tuple(name for name in model_state if name in shapes and name not in fits),
        unused=tuple(name for name in shapes if name not in model_state),
    )


def require_coverage(found: Coverage, source: str, minimum: float = MINIMUM_SHARE, whole: bool = False) -> None:
    """Log the share of parameters that ``source`` fills.

    Args:
        found: what it fills.
        source: its name, for messages.
        minimum: the least share.
        whole: nothing may be missing or of another shape. A training may start with a new last layer, small as
            it is; a model that predicts with one guesses.

    Raises:
        CheckpointError: too little is filled.
    """
    if found.share < minimum:
        bare = any(f"backbone.{name}" in found.missing for name in found.unused)
        hint = f"; it holds a backbone alone: model.backbone.init_cfg=dict(type='Pretrained', checkpoint={source!r})"
        raise CheckpointError(
            f"{source}: does not fit the model: {found}; at least {minimum:.0%} is required{hint if bare else ''}"
        )
    # a counter that older checkpoints lack and prediction does not read
    missing = [name for name in found.missing if not name.endswith("num_batches_tracked")]
    if whole and (missing or found.mismatched):
        raise CheckpointError(f"{source}: does not fit the model: {found}; has it other classes, or no head?")
    print_log(f"checkpoint {source}: {found}", logger="current")


def _with_state(content: dict[str, Any], source: str) -> dict[str, Any]:
    """A checkpoint with its weights where MMEngine's hooks look for them; a bare state dict has them elsewhere."""
    try:
        state = state_of(content)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    kept = content if "state_dict" in content else {key: content[key] for key in ("meta",) if key in content}
    return {**kept, "state_dict": state}


def _inert(content: Any, source: str) -> dict[str, Any]:
    """A checkpoint whose parts are of the kinds that its readers expect, and which nothing executes.

    MMEngine runs ``meta["config"]``, a program, where a training is resumed; covidmm's own checkpoints have none.

    Raises:
        CheckpointError: a part is something else.
    """
    if not isinstance(content, dict) or not isinstance(content.get("state_dict", {}), Mapping):
        raise CheckpointError(f"{source}: the checkpoint holds no state dict, names and their tensors")
    meta = content.get("meta")
    if meta is None:
        return content
    if not isinstance(meta, dict) or any(not isinstance(meta[key], kind) for key, kind in _META.items() if key in meta):
        raise CheckpointError(f"{source}: its meta is not that of a training")
    if not all(isinstance(value, int | float) for value in meta.get("val_metrics", {}).values()):
        raise CheckpointError(f"{source}: its validation metrics are no numbers")
    meta.pop("config", None)
    return content


def _harmless_types() -> list[Any]:
    """What checkpoints of the OpenMMLab model zoo hold beside tensors: numpy values and log buffers.

    mmengine's own list also admits ``getattr``, which lets a pickle reach into any object; here it reaches
    the statistics of a log buffer and nothing else.
    """
    return [HistoryBuffer, slice, *STAND_INS, (_log_statistic, "builtins.getattr")]


def _log_statistic(owner: Any, name: str) -> Any:
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"GLOBAL getattr of {owner}")
    return getattr(owner, name)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def stored_classes(path: Path) -> tuple[str, ...]:
    """The class names of the data set that a checkpoint was trained on; none where it does not say.

    Raises:
        CheckpointError: it is missing, or unsafe to read.
    """
    return classes_in(read_checkpoint(path))


def classes_in(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """As :func:`stored_classes`, of what was read."""
    found = ((checkpoint.get("meta") or {}).get("dataset_meta") or {}).get("classes") or ()
    return (found,) if isinstance(found, str) else tuple(map(str, found))


def stored_val_metrics(path: Path) -> dict[str, float]:
    """The validation metrics, the chosen confidence threshold among them, that a checkpoint carries."""
    return dict(read_checkpoint(path).get("meta", {}).get("val_metrics", {}))


def temperature_in(val_metrics: Mapping[str, float]) -> float | None:
    """The temperature that a validation of a classifier fitted, whatever its prefix; None where none did."""
    return next((value for key, value in val_metrics.items() if key.endswith("/temperature")), None)


def stored_provenance(path: Path) -> dict[str, Any]:
    """What a checkpoint's training was made from; empty where it does not say."""
    return dict((read_checkpoint(path).get("meta") or {}).get("provenance") or {})
