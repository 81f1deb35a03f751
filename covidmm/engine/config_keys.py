"""Check the keys of a config against the signatures of what reads them.

* At the top, the arguments of MMEngine's Runner.
* In a dict with a ``type``, the arguments of the registered class, up its bases through ``**kwargs``.
* In the ``train_cfg`` and ``test_cfg`` of a model, the names that occur in the source of its classes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    TestLoop,
    ValLoop,
    set_random_seed,
)
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from covidmm.engine.class_sources import arguments, keys_taken_by, strings_of, words_of
from covidmm.engine.config_files import refuse_unknown, replaced_type
from covidmm.engine.config_values import judged, value_at
from covidmm.errors import ConfigError, did_you_mean

#: Read by MMEngine, mmdet's tools or covidmm.jobs at the top of a config, beside the arguments of the Runner.
_TOP_LEVEL = {
    "custom_imports", "auto_scale_lr", "tta_model", "tta_pipeline", "runner_type", "env_cfg", "compile",
    "model_wrapper_cfg", "find_unused_parameters", "sync_bn", "efficient_conv_bn_eval",
    "activation_checkpointing", "cudnn_benchmark", "detector", "pretrained",
    "pretrained_weights", "test_time_augmentation", "classes", "class_map",
    "negative",
}  # fmt: skip

#: What a builder takes out of a dict before it calls the class, by the registry's name or the dict's own key.
_POPPED = {
    "hook": {"priority"},
    "parameter scheduler": {"convert_to_iter_based"},
    "optimizer wrapper": {"optimizer", "paramwise_cfg", "constructor"},
    "norm_cfg": {"requires_grad"},
    "nms": {"split_thr", "class_agnostic", "iou_thr"},
    "loop": {"by_epoch"},
    "dcn": {"fallback_on_stride", "deformable_groups"},
    "loss_cls": {"bg_cls_weight"},
}

#: Untyped dicts and the functions or classes whose arguments they are.
_ARGUMENTS_OF: dict[str, tuple[Callable, ...]] = {
    "train_cfg": (EpochBasedTrainLoop, IterBasedTrainLoop),
    "val_cfg": (ValLoop,),
    "test_cfg": (TestLoop,),
    "randomness": (set_random_seed,),
    "clip_grad": (clip_grad_norm_,),
    "train_dataloader": (DataLoader,),
    "val_dataloader": (DataLoader,),
    "test_dataloader": (DataLoader,),
}

#: Keys of untyped dicts that MMEngine reads without having them in a signature.
_NAMED = {
    "train_dataloader": {"dataset", "num_batch_per_epoch", "disable_subprocess_warning"},
    "val_dataloader": {"dataset", "num_batch_per_epoch", "disable_subprocess_warning"},
    "test_dataloader": {"dataset", "num_batch_per_epoch", "disable_subprocess_warning"},
    "train_cfg": {"by_epoch"},
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "mp_cfg": {"mp_start_method", "opencv_num_threads"},
    "custom_imports": {"imports", "allow_failed_imports"},
    "optim_wrapper": {"optimizer", "paramwise_cfg", "constructor"},
    "paramwise_cfg": {
        "custom_keys", "norm_decay_mult", "bias_lr_mult", "bias_decay_mult", "dwconv_decay_mult",
        "dcn_offset_lr_mult", "bypass_duplicate", "flat_decay_mult", "num_layers", "decay_rate", "decay_type",
        "layer_decay_rate", "layer_wise",
    },
    "filter_cfg": {"filter_empty_gt", "min_size"},
}  # fmt: skip

#: Where MMDetection takes an operation of MMCV by its name: suppression, under three keys, and the pooling of regions.
_OPERATIONS = ("nms", "nms_cfg", "dqs_cfg", "roi_layer")

#: Dicts that another library's registry reads, by the class that hands them on and its key.
_HANDED_ON = {("Albu", "transforms"), ("Albu", "bbox_params")}

#: In mmdet's shipped ``train_cfg``s: read outside the model's classes, or left by earlier versions.
_ELSEWHERE = {"debug", "allowed_border", "mask_size", "k", "bias"}


class Checker:
    """Checks one config.

    Args:
        cfg: the whole config, overrides merged.
        variables: top-level names that its files read themselves.
        files: what it is made of, the deepest base first.
    """

    def __init__(self, cfg: Config, variables: frozenset[str], files: Sequence[str] = ()) -> None:
        self.files = files
        self.cfg = cfg
        self.variables = variables
        self.registries = _registries(cfg.get("default_scope") or "mmengine")

    @staticmethod
    def top_level_keys() -> frozenset[str]:
        """Every key that MMEngine or mmdet reads at the top of a config."""
        return frozenset(set(inspect.signature(Runner.__init__).parameters) - {"self"} | _TOP_LEVEL)

    def check(self) -> None:
        """Check every key.

        Raises:
            ConfigError: at the first that nothing reads, or the first unknown type.
        """
        known = self.top_level_keys()
        for key, value in self.cfg.items():
            if key in known:
                self._check(value, key, key)
            elif key not in self.variables:
                refuse_unknown(self.cfg, key, known, self.files)

    def judge(self, path: str, value: Any) -> bool | None:
        """Whether the annotation of the argument at a dotted key takes a value; None where it does not tell."""
        *above, key = path.split(".")
        if not above:
            return judged(Runner, key, value)
        owner = value_at(self.cfg, ".".join(above))
        kinds = list(_ARGUMENTS_OF.get(above[-1], ())) if len(above) == 1 else []
        if isinstance(owner, Mapping) and owner.get("type") is not None:
            kinds = [kind for _, kind in self._lookup(owner["type"])]
        found = [judged(kind, key, value) for kind in kinds]
        return next((one for one in found if one is not None), None)

    def _check(self, value: Any, path: str, role: str, owner: Sequence[Any] = ()) -> None:
        """Check a part of the config; ``owner`` is the classes of the typed dict that it lies in."""
        if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                self._check(item, f"{path}.{index}", role, owner)
        elif isinstance(value, Mapping):
            if value.get("type") is not None:
                owner = self._check_typed(value, path, role, owner)
            else:
                self._check_plain(value, path, role)
            for key, item in value.items():
                if path == "model" and key in ("train_cfg", "test_cfg"):
                    continue  # checked in _check_model
                if (value.get("type"), key) not in _HANDED_ON:
                    self._check(item, f"{path}.{key}", str(key), owner)
            if path == "model":
                self._check_model(value)

    def _check_typed(self, value: Mapping, path: str, role: str, owner: Sequence[Any]) -> Sequence[Any]:
        """Check the keys of a dict with a ``type``.

        Returns:
            The classes that it names.
        """
        if not self._lookup(value["type"]) and any(value["type"] in strings_of(one) for one in owner):
            return owner  # such as "conv" to FPG, which chooses by the name itself
        kinds = self._resolve(value["type"], path, role)
        allowed: set[str] = {"type", "_scope_", "_delete_"} | _POPPED.get(role, set()) | _NAMED.get(role, set())
        for one in owner:  # takes keys out of the dict before it builds from the rest
            allowed |= keys_taken_by(one)
        classes = [kind for _, kind in kinds]
        for registry, kind in kinds:
            accepted = arguments(kind)
            if accepted is None:
                return classes
            allowed |= accepted | _POPPED.get(registry, set())
        self._refuse_others(value, allowed, path, f" of {getattr(classes[0], '__name__', classes[0])}")
        return classes

    def _check_plain(self, value: Mapping, path: str, role: str) -> None:
        if role not in _NAMED and role not in _ARGUMENTS_OF:
            return
        if role in ("train_cfg", "val_cfg", "test_cfg") and "." in path:
            return  # a model's, not the runner's
        if role == "paramwise_cfg" and (self.cfg.get("optim_wrapper") or {}).get("constructor"):
            return  # the constructor's own keys
        allowed = set(_NAMED.get(role, ()))
        for kind in _ARGUMENTS_OF.get(role, ()):
            allowed |= arguments(kind) or set()
        if role == "filter_cfg":  # XMLDataset and its children read one more, by a property of its name
            kind = (value_at(self.cfg, path.rpartition(".")[0]) or {}).get("type")
            allowed |= {key for key in value for _, found in self._lookup(kind) if hasattr(found, key)}
        if role == "optim_wrapper":
            allowed |= arguments(self._resolve("OptimWrapper", path, role)[0][1]) or set()
        self._refuse_others(value, allowed | {"type"}, path, "")

    def _check_model(self, model: Mapping) -> None:
        """Check ``train_cfg`` and ``test_cfg`` by the words in the source of the model's classes."""
        words = set(_ELSEWHERE)
        for node in _dicts(model):
            if node.get("type") is not None:
                for kind in self._lookup(node["type"]):
                    words |= words_of(kind[1])

        def visit(value: Any, path: str, role: str) -> None:
            if isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    visit(item, f"{path}.{index}", role)
            elif isinstance(value, Mapping) and value.get("type") is not None:
                self._check(value, path, role)
            elif isinstance(value, Mapping):
                self._refuse_others(value, words, path, "")
                for key, item in value.items():
                    visit(item, f"{path}.{key}", str(key))

        for name in ("train_cfg", "test_cfg"):
            visit(model.get(name), f"model.{name}", name)

    def _refuse_others(self, value: Mapping, allowed: set[str], path: str, of: str) -> None:
        for key in value:
            if key not in allowed:
                raise ConfigError(f"unknown key '{path}.{key}'{of}{self._hint(value, path, str(key), allowed)}")

    def _hint(self, value: Mapping, path: str, key: str, allowed: set[str]) -> str:
        """The nearest key, or what to do about one that the type below had and a change of the type left."""
        kind = value.get("type")
        other = replaced_type(list(self.files), path, key, str(getattr(kind, "__name__", kind))) if kind else None
        if other is None:
            return did_you_mean(key, allowed)
        return f", inherited from the base's '{other}': did you mean `_delete_=True` beside the new type?"

    def _resolve(self, name: Any, path: str, role: str) -> list[tuple[str, Any]]:
        found = self._lookup(name)
        if not found and role in _OPERATIONS:
            import mmcv.ops  # where mmcv looks these up; slow to import, and an ensemble's config has neither

            if hasattr(mmcv.ops, str(name)):
                return [("op", getattr(mmcv.ops, name))]
        if not found:
            names = {key for registry in self.registries for key in registry.module_dict}
            raise ConfigError(f"unknown type '{name}' at {path}{did_you_mean(str(name), names)}")
        return found

    def _lookup(self, name: Any) -> list[tuple[str, Any]]:
        if not isinstance(name, str):
            return [("", name)]
        found = []
        for registry in self.registries:
            if "." not in name and not _holds(registry, name):
                continue  # `get` would look for a module of that name on the whole path
            kind = registry.get(name)
            if kind is not None:
                found.append((registry.name, kind))
        return found


def _holds(registry: Registry, name: str) -> bool:
    """Whether a bare name is registered here or above, where :meth:`Registry.get` looks for it."""
    registry.import_from_location()
    above: Registry | None = registry
    while above is not None:
        if name in above.module_dict:
            return True
        above = above.parent
    return False


def _registries(scope: str) -> list[Registry]:
    found: dict[int, Registry] = {}
    for package in (scope, "mmengine"):
        try:
            module = importlib.import_module(f"{package}.registry")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"default_scope is '{scope}', expected an installed package with registries, such as 'mmdet': {error}"
            ) from error
        for value in vars(module).values():
            if isinstance(value, Registry):
                found[id(value)] = value
    return list(found.values())


def _dicts(value: Any) -> Iterable[Mapping]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _dicts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _dicts(item)
