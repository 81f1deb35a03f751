"""Facts of a run: its config compared with its base, hashes, versions, machine, times."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.reports.runs import Run, find_file
from covidmm.utils.packaged_configs import config_path, own_configs
from covidmm.utils.provenance import sha256

_TIME = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ", re.MULTILINE)
_LEFT = re.compile(r"\[(\d+)\]\[.*eta: ((?:\d+ days?, )?[\d:]+)")
_ENVIRONMENT = {"Python": r"^\s+Python: ([\d.]+)", "PyTorch": r"^\s+PyTorch: (\S+)", "GPU": r"^\s+GPU [\d,]+: (.+)$"}
# Where and how the job was started; no part of what it computed.
_CIRCUMSTANCES = frozenset({"work_dir", "launcher", "resume"})
#: covidmm's own configs, which are trusted as covidmm itself is.
_SHIPPED = own_configs().resolve()
_LONGEST = 160
_MISSING = object()


@dataclass(frozen=True)
class Difference:
    """One value of a config that differs from its base; ``None`` where a config does not have it."""

    key: str
    base: str | None
    own: str | None


def run_facts(run: Run) -> list[tuple[str, str]]:
    """Label and value of everything that is known about a run."""
    facts = [("folder", str(run.folder))]
    if run.log:
        facts += _times(run)
    seed = _dumped(run).get("randomness", {}).get("seed")
    facts += [("seed", str(seed))] if seed is not None else []
    for name, origin in run.provenance.items():
        own = origin_facts(origin)
        facts += [(f"{label} ({name})" if len(run.provenance) > 1 else label, text) for label, text in own]
    if not run.provenance:
        facts += [("checkpoint", text) for text in _checkpoints(run)]
        facts += [("tested", "not yet: no metrics.json of tools/test.py for this folder")]
    return facts


def config_difference(run: Run) -> list[Difference] | str:
    """Where a run's config differs from the base that its file names; a sentence where that is unknown."""
    source = next((str(one["config"]) for one in run.provenance.values() if "config" in one), None)
    name = Path(source).name if source else run.config.name if run.config else None
    if run.config is None or name is None:
        return "The run left no config."
    # torch takes three seconds to import, which a report of data or an ensemble does without
    from covidmm.engine.config_keys import Checker

    path = find_file(source, run.folder) if source else None
    path = path or _named(name, run.folder)
    if path is None:
        return f"{name} is not here, so its base is unknown."
    try:
        bases = _bases(path)
        if not bases:
            return f"{path} inherits no other config."
        base, own = _merged([_config_of(base) for base in bases]), _dumped(run)
        read = Checker.top_level_keys() | set(own)  # a run dumps no variables of its files
        return differences({key: value for key, value in base.items() if key in read}, own)
    except Exception as error:  # a config is a program and can raise anything
        return f"{path} cannot be compared with its base: {type(error).__name__}: {error}"


def differences(base: Mapping[str, Any], own: Mapping[str, Any]) -> list[Difference]:
    """Every value, by dotted key, that is not the same in two configs.

    Lists of the same length are compared item by item where the items are dicts; any other list is one value.
    """
    first, second = ({key: one[key] for key in one if key not in _CIRCUMSTANCES} for one in (base, own))
    return list(_compare("", first, second))


def _compare(key: str, base: Any, own: Any) -> Iterator[Difference]:
    # a part that one of them lacks is listed value by value
    if isinstance(own, Mapping) and base is _MISSING:
        base = {}
    elif isinstance(base, Mapping) and own is _MISSING:
        own = {}
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        for name in dict.fromkeys([*base, *own]):
            yield from _compare(f"{key}.{name}" if key else name, base.get(name, _MISSING), own.get(name, _MISSING))
    elif _dicts(base) and _dicts(own) and len(base) == len(own):
        for number, (one, other) in enumerate(zip(base, own, strict=True)):
            yield from _compare(f"{key}.{number}", one, other)
    elif _text(base) != _text(own):
        yield Difference(key, _short(_text(base)), _short(_text(own)))


def _dicts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def _text(value: Any) -> str | None:
    # a dumped config has its keys sorted
    return None if value is _MISSING else json.dumps(value, default=str, sort_keys=True)


def _times(run: Run) -> list[tuple[str, str]]:
    text = run.log.read_text(errors="replace") if run.log else ""
    times = [datetime.strptime(time, "%Y/%m/%d %H:%M:%S") for time in _TIME.findall(text)]
    if not times:
        return []
    facts = [("started", str(times[0])), ("duration", str(times[-1] - times[0]))]
    epochs = _dumped(run).get("train_cfg", {}) or {}
    last = max((int(one.get("epoch", 0)) for one in run.train), default=0)
    if last and (total := epochs.get("max_epochs")):
        left = _LEFT.findall(text)
        # the last epoch has begun; its end is a validation or the end of the log
        ended = last >= total and any(int(one.get("step", 0)) >= total for one in run.val)
        going = "" if ended or not left else f", {left[-1][1]} left when the log was last written"
        facts.append(("epochs", f"{last} of {total}{going}"))
    for label, pattern in _ENVIRONMENT.items():
        if found := re.search(pattern, text, re.MULTILINE):
            facts.append((label, found[1]))
    return facts


def origin_facts(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of a provenance, as ``metrics.json`` has it."""
    facts = []
    for label, key in (("config", "config"), ("checkpoint", "checkpoint"), ("data", "data")):
        if key in origin:
            digest = origin.get(f"{key}_sha256")
            facts.append((label, f"{origin[key]}" + (f", sha256 {digest}" if digest else "")))
    if "data_sha256_covers" in origin:
        facts.append(("the data's hash is of", origin["data_sha256_covers"]))
    if "config_resolved_sha256" in origin:
        facts.append(("config with its bases and overrides", f"sha256 {origin['config_resolved_sha256']}"))
    if "prepared_sha256" in origin:
        facts.append(("pixels and labels", f"sha256 {origin['prepared_sha256']}"))
    for name, member in (origin.get("members") or {}).items():
        facts.append((f"member {name}", f"{member.get('config')}, checkpoint sha256 {member.get('checkpoint_sha256')}"))
    if "strategy" in origin:
        facts.append(("strategy", json.dumps(origin["strategy"])))
    if versions := origin.get("versions"):
        facts.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    if machine := origin.get("machine"):
        gpu = machine.get("gpu") or "no GPU"
        facts.append(("machine", f"{machine.get('platform')}, {machine.get('cpus')} processors, {gpu}"))
    facts.append(("git", str(origin.get("git_revision") or "unknown: not run from a checkout")))
    return facts


def _checkpoints(run: Run) -> list[str]:
    from covidmm.engine.checkpointing import checkpoints_in  # as above

    best = sorted(run.folder.glob("best_*.pth")) or checkpoints_in(run.folder)[-1:]
    return [f"{path.name}, sha256 {sha256(path)}" for path in best]


def _bases(path: Path) -> list[Path]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_base_":
            named = ast.literal_eval(node.value)
            named = [named] if isinstance(named, str) else named
            return [(config_path(one) if "::" in one else path.parent / one).resolve() for one in named]
    return []


def _named(name: str, near: Path) -> Path | None:
    for root in (Path(), *near.resolve().parents):
        if found := sorted(root.glob(f"configs/**/{name}")):
            return found[0]
    return None


def _dumped(run: Run) -> dict[str, Any]:
    try:
        return parse_config(run.config.read_text()) if run.config else {}
    except (OSError, ValueError):
        return {}


def parse_config(text: str) -> dict[str, Any]:
    """A dumped config as a dict, {} where it is not one; never executed, for it may have come with a checkpoint."""
    try:
        return _literals(text)
    except Exception:  # it may hold anything
        return {}


def _config_of(path: Path) -> dict[str, Any]:
    """The values of a config. One of covidmm's own may be executed; any other is only read, as plain values."""
    if _SHIPPED in path.resolve().parents:
        from covidmm.engine.console import quiet_reading  # as above

        with quiet_reading():
            return Config.fromfile(str(path), import_custom_modules=False).to_dict()
    try:
        own = _literals(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} computes its values, and a report executes no config but covidmm's own") from error
    own.pop("_base_", None)
    return _merged([*(_config_of(base) for base in _bases(path)), own])


def _merged(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Configs merged in order, as MMEngine does it."""
    merged = Config({})
    for one in configs:
        merged.merge_from_dict(one, allow_list_keys=False)
    return merged.to_dict()


def _literals(text: str) -> dict[str, Any]:
    """The names that a text gives plain values, lists and dicts.

    Raises:
        ValueError: it does anything else.
    """
    found = {}
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = _literal(value)
            case ast.Expr(value=ast.Constant()):  # its docstring
                pass
            case _:
                raise ValueError(f"line {statement.lineno} is no plain value")
    return found


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=pairs) if all(pair.arg for pair in pairs):
            return {pair.arg: _literal(pair.value) for pair in pairs}
        case ast.Call(func=ast.Name(id="dict"), args=[ast.Dict() as inner], keywords=[]):
            return _literal(inner)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {ast.literal_eval(key): _literal(value) for key, value in zip(keys, values, strict=True)}
        case ast.List(elts=items):
            return [_literal(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
    return ast.literal_eval(node)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
