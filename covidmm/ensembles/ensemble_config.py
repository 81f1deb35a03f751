"""The config of an ensemble: members, strategy, study classifier and the rules of the submission."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.engine.config import merge_options, read_config, settle
from covidmm.engine.config_files import files_of, refuse_unread
from covidmm.engine.config_imports import import_custom, import_modules, imported_modules
from covidmm.ensembles.accepted_images import Accepts
from covidmm.ensembles.ensemble_values import accepts_of, class_codes, class_names, made
from covidmm.ensembles.gate import Gate
from covidmm.errors import ConfigError, PluginError, did_you_mean
from covidmm.outputs.kaggle import NoneRule, Rerank
from covidmm.plugins import EnsembleStrategy, PluginManager, StudyClassifier
from covidmm.plugins.manager import UnknownArgumentError, is_place, module_of
from covidmm.utils.packaged_configs import config_path
from covidmm.utils.provenance import resolved_sha256

_TOP_LEVEL = (
    *("members", "classes", "class_codes", "strategy", "study", "none", "rerank", "max_size", "batch_size", "accepts"),
    *("gate", "custom_imports"),
)
#: What a backend can compute in.
PRECISIONS = {
    "torch": ("float32", "bfloat16", "float16", "auto"),
    "onnxruntime": ("float32",),
    "openvino": ("float32", "bfloat16"),
}


@dataclass(frozen=True)
class Backend:
    """What runs a detector's network.

    Attributes:
        type: ``torch``, ``onnxruntime`` or ``openvino``.
        file: what ``tools/export.py`` made of the member, for all but ``torch``.
        precision: ``float32``; ``bfloat16`` (torch, openvino); ``float16`` (torch on a GPU); ``auto`` (torch): the
            fastest of these that the machine has units for.
    """

    type: str = "torch"
    file: str | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.type not in PRECISIONS:
            raise ConfigError(f"unknown backend '{self.type}'{did_you_mean(str(self.type), PRECISIONS)}")
        if (self.file is None) != (self.type == "torch"):
            raise ConfigError(f"backend '{self.type}' takes {'no file' if self.file else 'a file of tools/export.py'}")
        if self.precision not in PRECISIONS[self.type]:
            known = ", ".join(PRECISIONS[self.type])
            raise ConfigError(f"backend '{self.type}' has no precision '{self.precision}', it has {known}")


@dataclass(frozen=True)
class Member:
    """One detector of an ensemble.

    Attributes:
        config: its MMDetection config.
        checkpoint: a file, ``covidmm://NAME``, or a work dir, whose best checkpoint is taken.
        weight: how much it counts in the fusion, positive.
        score_threshold: boxes below this confidence do not take part.
        nms_iou_threshold: IoU of a non-maximum suppression of its own before the fusion; None for none.
        test_time_augmentation: None does as its config says.
        backend: what runs its network; a dict in a config.
        class_map: name of a class of the detector -> name of a class of the ensemble; None leaves its boxes out.
    """

    config: str
    checkpoint: str
    weight: float = 1.0
    score_threshold: float = 0.0
    nms_iou_threshold: float | None = None
    test_time_augmentation: bool | None = None
    backend: Backend = Backend()
    class_map: Mapping[str, str | None] | None = None

    def __post_init__(self) -> None:
        if self.class_map is not None and not isinstance(self.class_map, Mapping):
            raise ConfigError(f"class_map must be a dict of names, not {self.class_map!r}")
        if not self.weight > 0:
            raise ConfigError(f"weight must be positive, not {self.weight}")
        if not 0 <= self.score_threshold < 1:
            raise ConfigError(f"score_threshold must lie in 0..1, not {self.score_threshold}")
        if self.nms_iou_threshold is not None and not 0 < self.nms_iou_threshold <= 1:
            raise ConfigError(f"nms_iou_threshold must lie in 0..1, not {self.nms_iou_threshold}")


@dataclass(frozen=True)
class EnsembleConfig:
    """A checked ensemble config.

    Attributes:
        path: the file.
        members: the detectors by name, in the order of the file.
        strategy: type and arguments of the ensemble strategy.
        study: type and arguments of the study classifier; None to classify no studies.
        none: rule and weight of the confidence of 'none'; see :mod:`covidmm.outputs.kaggle`.
        rerank: exponents of the re-ranking of opacity scores, None for none.
        max_size: longer side, in pixels, that images are shrunk to before anything sees them, as in ``prepare``.
        batch_size: images that go through a network at once.
        accepts: what the models are made for.
        classes: names of what is found, by class index; None for all that the members find.
        class_codes: value, scheme and meaning of the code of a class in Structured Reports, by its name.
        gate: what is applied to the fused boxes; None for nothing.
        modules: what ``custom_imports`` imported, whose hooks count.
    """

    path: Path
    members: Mapping[str, Member]
    strategy: Mapping[str, Any]
    study: Mapping[str, Any] | None
    none: Mapping[str, Any]
    rerank: Mapping[str, Any] | None
    max_size: int
    batch_size: int
    accepts: Accepts = field(default_factory=Accepts)
    classes: tuple[str, ...] | None = None
    class_codes: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    gate: Gate | None = None
    modules: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the config with its bases and overrides, as :func:`covidmm.utils.provenance.resolved_sha256`."""
        left = ("path", "modules") if self.gate else ("path", "modules", "gate")
        return resolved_sha256({name: value for name, value in asdict(self).items() if name not in left})

    def rules(self) -> tuple[NoneRule, Rerank]:
        """The rules of the submission: the confidence of 'none', and the re-ranking of opacity scores.

        Raises:
            ConfigError: a key that they do not have, or a value out of range.
        """
        try:
            return made(NoneRule, self.none, " in none"), made(Rerank, self.rerank or {}, " in rerank")
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def build_strategy(self, manager: PluginManager) -> EnsembleStrategy:
        """The ensemble strategy.

        Raises:
            PluginError: an unknown name or argument; arguments that were inherited from another strategy.
        """
        manager.register_modules(self.modules)
        strategy = self._build("strategy", manager.build_strategy)
        if require := getattr(strategy, "require_members", None):
            require(tuple(self.members))
        return strategy

    def build_classifier(self, manager: PluginManager, finds: Sequence[str]) -> StudyClassifier | None:
        """The study classifier, None where no study is classified.

        Args:
            manager: of the plugins.
            finds: classes of the ensemble's boxes.

        Raises:
            CovidmmError: as :meth:`build_strategy`, or a checkpoint or classes that cannot be used.
        """
        if self.study is None:
            return None
        manager.register_modules(self.modules)
        return self._build("study", lambda study: manager.build_study_classifier(study, finds))

    def _build(self, role: str, build: Callable[[Mapping[str, Any]], Any]) -> Any:
        chosen = getattr(self, role)
        try:
            return build(chosen)
        except UnknownArgumentError as error:
            inherited = _inherited(self.path, role, error) if error.plugin == chosen["type"] else None
            raise (PluginError(inherited) if inherited else error) from error


def load_ensemble(path: str | Path, options: Sequence[str] = ()) -> EnsembleConfig:
    """Load the config of an ensemble and refuse every key that nothing reads.

    Args:
        path: config file, or one of a package as ``covidmm::NAME.py``.
        options: overrides, each ``dotted.key=value``. One of ``strategy.type`` or ``study.type`` replaces that dict,
            since no override can say ``_delete_``.

    Raises:
        ConfigError: the file is missing or broken, a key is unknown or missing, a value out of range.
    """
    path = config_path(path)
    cfg = read_config(path)
    _require_ensemble(path, cfg)
    cfg["accepts"] = _rule(path, cfg)
    for key in ("strategy", "study"):
        if isinstance(cfg.get(key), dict) and any(text.startswith(f"{key}.type=") for text in options):
            cfg[key] = {"type": cfg[key].get("type")}
    helpers, overrides = merge_options(cfg, options, _TOP_LEVEL)
    settle(cfg, overrides)
    files = files_of(cfg)
    import_custom(cfg, path, files)
    import_modules(
        [module_of(one) for one in _places(cfg.get("strategy"), cfg.get("study"), cfg.get("gate"))],
        path,
        files,
        where="type",
    )
    refuse_unread(files, _TOP_LEVEL)
    for key in cfg:
        if key not in _TOP_LEVEL and key not in helpers:
            raise ConfigError(f"{path}: unknown key '{key}' in the config{did_you_mean(key, _TOP_LEVEL)}")
    for key in ("members", "strategy", "none", "max_size", "batch_size"):
        if key not in cfg:
            raise ConfigError(f"{path}: has no '{key}'; inherit configs/_base_/ensemble.py")
    content = cfg.to_dict()
    for key in ("strategy", "study", "none", "rerank", "gate"):
        if key in ("study", "rerank", "gate") and content.get(key) is None:
            continue
        if not isinstance(content[key], dict):
            typed = " with a type" if key in ("strategy", "study") else ""
            raise ConfigError(f"{path}: {key} must be a dict{typed}, not {content[key]!r}")
        content[key].pop("_delete_", None)  # MMEngine leaves it where there was nothing to replace
    members = _members(path, content["members"])
    for key in ("max_size", "batch_size"):
        if not isinstance(content[key], int) or content[key] < 1:
            raise ConfigError(f"{path}: {key} must be a positive integer, not {content[key]!r}")
    return EnsembleConfig(
        path=path,
        members=members,
        strategy=content["strategy"],
        study=content.get("study"),
        none=content["none"],
        rerank=content.get("rerank"),
        max_size=content["max_size"],
        batch_size=content["batch_size"],
        accepts=accepts_of(path, content.get("accepts")),
        classes=class_names(path, content.get("classes")),
        class_codes=class_codes(path, content.get("class_codes")),
        gate=_gate(path, content.get("gate")),
        modules=imported_modules(cfg),
    )


def _places(*parts: Any) -> Iterator[str]:
    """The types that say which module they are in, at any depth."""
    for part in parts:
        if isinstance(part, Mapping):
            yield from (one for one in [part.get("type")] if is_place(one))
            yield from _places(*part.values())
        elif isinstance(part, list | tuple):
            yield from _places(*part)


def _require_ensemble(path: Path, cfg: Config) -> None:
    if "model" in cfg and "members" not in cfg:
        raise ConfigError(
            f"{path}: is the config of one model, which tools/train.py and tools/test.py read; expected that of an "
            "ensemble, which names it in its members"
        )


def _rule(path: Path, cfg: Config) -> Any:
    """The file's ``accepts``, on which options come; also an empty dict, which changes nothing when it is merged."""
    value = cfg.get("accepts")
    return {} if value is None or (value and _is_emptied(path)) else value


def _gate(path: Path, value: Mapping[str, Any] | None) -> Gate | None:
    try:
        return None if value is None else made(Gate, value, " in gate")
    except ConfigError as error:
        raise ConfigError(f"{path}: gate: {error}") from error


def _is_emptied(path: Path) -> bool:
    """Whether the last file of a config that has ``accepts`` gives it an empty dict."""
    for file in reversed(files_of(read_config(path))):
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and any(ast.unparse(one) == "accepts" for one in node.targets):
                return ast.unparse(node.value) in ("{}", "dict()")
    return False


def _inherited(path: Path, role: str, error: UnknownArgumentError) -> str | None:
    """What to write where a file gave a dict another type, and kept an argument of the type below; else None."""
    changed = None
    for file in reversed(files_of(read_config(path))):
        found = Config.fromfile(file, import_custom_modules=False).get(role)
        other = found.get("type") if isinstance(found, dict) else None
        if other == error.plugin:
            changed = file
        elif changed is None:  # an override chose the type, and replaced the whole
            return None
        elif other is not None and error.argument in found:
            return (
                f"{changed}: {role}: '{error.plugin}' has no argument '{error.argument}', inherited from the base's "
                f"'{other}'; write {role} = dict(_delete_=True, type='{error.plugin}', ...)"
            )
    return None


def _members(path: Path, value: Any) -> dict[str, Member]:
    members = {name: one for name, one in value.items() if name != "_delete_"} if isinstance(value, dict) else {}
    if not all(isinstance(one, dict) for one in members.values()) or (not members and value):
        raise ConfigError(f"{path}: members must be a dict: name=dict(config=..., checkpoint=...), ...")
    if not members:
        raise ConfigError(f"{path}: has no members")
    return {name: _member(path, name, members) for name in members}


def _member(path: Path, name: str, members: Mapping[str, Mapping[str, Any]]) -> Member:
    where, value = f"{path}: member '{name}'", {key: own for key, own in members[name].items() if key != "_delete_"}
    if "config" not in value and "checkpoint" not in value:
        # what was meant to change another member became one of its own
        others = [other for other in members if other != name]
        raise ConfigError(f"{where}: has no 'config' and no 'checkpoint'{did_you_mean(name, others)}")
    if not name.isidentifier():
        raise ConfigError(f"{where}: the name becomes a file name, use letters, digits and '_'")
    try:
        backend = value.get("backend", {})
        if not isinstance(backend, Mapping):
            raise ConfigError(f"backend must be a dict with a type, not {backend!r}")
        return made(Member, {**value, "backend": made(Backend, backend, " in backend")})
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
