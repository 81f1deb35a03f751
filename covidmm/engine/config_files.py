"""What each file of a config sets and reads: names of its own that nothing reads, and keys of a replaced type.

A config file is a program. A name of its own, such as ``max_epochs`` or ``train_pipeline``, has done its work when the
file was read: set again in a file that inherits, it changes nothing unless that file reads it, too.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.engine.config_values import value_at
from covidmm.errors import ConfigError, did_you_mean

#: Variables of MMDetection's own files whose names look like mistakes for keys.
_VARIABLES = re.compile(r"(train|val|test)_(dataset|pipeline)\w*")


def files_of(cfg: Config) -> list[str]:
    """Every file that a config is made of, the deepest base first; MMEngine's text of it names them."""
    return [file for file in re.findall(r"^.+\.py$", cfg.text, re.MULTILINE) if Path(file).is_file()]


def refuse_unknown(cfg: Config, key: str, known: Set[str], files: Sequence[str]) -> None:
    """Refuse a name at the top of a config that nothing reads.

    A config that MMDetection dumped still has the variables of its files, used when those were read: one passes, unless
    it looks like a mistake for a key; a value that is that of no key is a warning.

    Args:
        cfg: the config.
        key: the name.
        known: what is read at the top of a config.
        files: of the config.

    Raises:
        ConfigError: with the places where the value is to be set, or the nearest key.
    """
    deeper = [path for path in _places_of(cfg, key) if path.split(".")[0] in known][:4]
    hint = f": set {', '.join(deeper)}" if deeper else did_you_mean(key, known)
    others = [value_at(cfg, path) for path in deeper] or [cfg[one] for one in known & set(cfg)]
    if _is_dump(files) and any(_is_in(cfg[key], one) for one in others):
        return
    if not _is_dump(files) or (hint and not _VARIABLES.fullmatch(key)):
        raise ConfigError(f"unknown key '{key}' in the config{hint}")
    warnings.warn(f"{files[0]}: nothing reads '{key}', a variable of the files that it was dumped from", stacklevel=2)


def _is_dump(files: Sequence[str]) -> bool:
    """Whether a config is one file without a base and without a computed value, as MMEngine dumps it."""
    if len(files) != 1:
        return False
    lines = ast.parse(Path(files[0]).read_text(encoding="utf-8")).body
    return all(isinstance(line, ast.Assign) and _loaded(line) <= {"dict"} for line in lines)


class ConfigFile:
    """One file of a config, with what its lines set and read.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # MMEngine's placeholders are no Python: {{fileDirname}}, {{$VARIABLE:value}}, {{_base_.name}}
        text = re.sub(r"\{\{\s*(_base_\.[\w.]+)\s*\}\}", r"\1", Path(path).read_text(encoding="utf-8"))
        self._lines = ast.parse(re.sub(r"\{\{.*?\}\}", "0", text)).body
        #: top-level names that are set
        self.sets = {name for line in self._lines for name in _stored(line)} - {"_base_"}
        #: names of the bases that are read as ``_base_.name``
        self.reads_of_bases = {
            node.attr
            for line in self._lines
            for node in ast.walk(line)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_base_"
        }

    @cached_property
    def values(self) -> Config:
        """The config that the file describes together with its bases."""
        return Config.fromfile(self.path, import_custom_modules=False)

    def places(self, name: str, keys: Collection[str], seen: frozenset[str] = frozenset()) -> list[str]:
        """Where the file's own lines use a name, directly or through other names: dotted keys of the config.

        Args:
            name: one that the file sets.
            keys: what is read at the top of a config.
            seen: names that led here.
        """
        found: list[str] = []
        for line in self._lines:
            if name not in _loaded(line):
                continue
            for target in _stored(line) - seen - {name}:
                paths = _paths(getattr(line, "value", None), name)
                if target in keys:
                    found += (places := [".".join((target, *path)) for path in paths or [()]])
                    found += [alias + place[len(target) :] for alias in self._aliases(target) for place in places]
                else:
                    found += self.places(target, keys, seen | {name})
        return list(dict.fromkeys(found))

    def _aliases(self, key: str) -> set[str]:
        """Keys that a line sets to the same value, as MMDetection's ``test_dataloader = val_dataloader``."""
        same = [line for line in self._lines if isinstance(getattr(line, "value", None), ast.Name)]
        return {name for line in same if line.value.id == key for name in _stored(line)}


def refuse_unread(files: list[str], keys: Collection[str]) -> None:
    """Refuse a file that gives a name of its bases another value, which nothing reads any more.

    Args:
        files: of one config, the deepest base first.
        keys: what is read at the top of a config.

    Raises:
        ConfigError: with the places where the value is to be set.
    """
    chain = [ConfigFile(path) for path in files]
    for number, file in enumerate(chain):
        if ".mim" in Path(file.path).parts:
            continue  # shipped by MMDetection, where a user can change nothing
        for name in sorted(file.sets - set(keys)):
            user = next((one for one in reversed(chain[:number]) if name in one.sets and one.places(name, keys)), None)
            if user is None or file.places(name, keys):
                continue
            if any(name in one.reads_of_bases for one in chain[number + 1 :]):
                continue
            if repr(file.values.get(name)) != repr(user.values.get(name)):
                places = user.places(name, keys)
                raise ConfigError(
                    f"{file.path}: '{name}' is a variable of {Path(user.path).name}, already used there: "
                    f"set {', '.join(places[:4])}{' and others' if len(places) > 4 else ''}"
                )


def used_at(files: list[str], name: str, keys: Collection[str]) -> list[str]:
    """Where the last file that sets and uses a name of its own does so, as dotted keys of the config.

    Args:
        files: of one config, the deepest base first.
        name: of a variable.
        keys: what is read at the top of a config.
    """
    for path in reversed(files):
        file = ConfigFile(path)
        if name in file.sets and (places := file.places(name, keys)):
            return places
    return []


def replaced_type(files: list[str], path: str, key: str, kind: str) -> str | None:
    """The type that had an unknown key before a file gave the dict another type; None where none had it.

    Args:
        files: of one config, the deepest base first.
        path: the dict, dotted.
        key: the unknown one.
        kind: the type that the dict has now.
    """
    for file in reversed(files):
        try:
            found: Any = ConfigFile(file).values
            for part in path.split("."):
                found = found[int(part)] if isinstance(found, list | tuple) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            continue
        other = found.get("type") if isinstance(found, Mapping) else None
        if other is not None and other != kind and key in found:
            return str(getattr(other, "__name__", other))
    return None


def _places_of(value: Any, key: str, path: str = "") -> Iterator[str]:
    """Dotted paths of the dicts below a value that have a key."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Config | Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for name, item in items:
        if path and name == key:
            yield f"{path}.{key}"
        yield from _places_of(item, key, f"{path}.{name}" if path else str(name))


def _is_in(value: Any, whole: Any) -> bool:
    items = whole.values() if isinstance(whole, Mapping) else whole if isinstance(whole, list | tuple) else ()
    return value == whole or any(_is_in(value, item) for item in items)


def _stored(line: ast.stmt) -> set[str]:
    """Names that a line of a file sets, or whose value it changes by a method or an item."""
    found = set()
    for node in ast.walk(line):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and not _is_local(line, node.id):
            found.add(node.id)
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= _root(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(line, ast.Expr):
            found |= _root(node.func)
    return found


def _loaded(line: ast.stmt) -> set[str]:
    """Names whose value goes into what a line sets; the owner of a method that is called is no such name."""
    owner: set[str] = set()
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) and isinstance(line.value.func, ast.Attribute):
        owner = _root(line.value.func)
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - owner


def _root(node: ast.AST) -> set[str]:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) and node.id != "_base_" else set()


def _is_local(line: ast.stmt, name: str) -> bool:
    """Whether a name is that of a loop inside an expression, which no file keeps."""
    loops = [node for node in ast.walk(line) if isinstance(node, ast.comprehension)]
    own = {n.id for loop in loops for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
    targets = getattr(line, "targets", [])
    return name in own and not any(isinstance(n, ast.Name) and n.id == name for t in targets for n in ast.walk(t))


def _paths(value: ast.AST | None, name: str) -> list[tuple[str, ...]]:
    """Keys that lead to a name in ``dict(...)`` and ``{...}``; an empty path where it is somewhere in a value."""
    pairs: list[tuple[str, ast.AST]] = []
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        pairs = [(keyword.arg, keyword.value) for keyword in value.keywords if keyword.arg]
    elif isinstance(value, ast.Dict):
        pairs = [(str(key.value), item) for key, item in zip(value.keys, value.values, strict=True)
                 if isinstance(key, ast.Constant)]  # fmt: skip
    return [(key, *path) for key, item in pairs if _holds(item, name) for path in _paths(item, name) or [()]]


def _holds(value: ast.AST, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(value))
