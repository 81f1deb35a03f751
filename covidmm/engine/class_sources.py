"""What the source of a registered class says of the configs that it reads."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any


def arguments(kind: Any) -> set[str] | None:
    """The keyword arguments that a class or function takes, or None where it takes any.

    ``**kwargs`` of a constructor is followed up the bases as long as it is handed to ``super().__init__``.
    """
    if not inspect.isclass(kind):
        parameters = inspect.signature(kind).parameters.values()
        return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}
    names: set[str] = set()
    # with several bases, which one gets the rest is the class's own affair
    mixed = any(len(base.__bases__) > 1 for base in kind.__mro__)
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is None or base is object:
            continue
        try:
            parameters = inspect.signature(init).parameters.values()
        except ValueError:
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if open_ended and not _hands_on(init):
            return None
        if not open_ended and not mixed:
            break
    return names - {"self"}


@cache
def _hands_on(init: Callable) -> bool:
    """Whether a constructor gives its ``**kwargs`` to ``super().__init__``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, SyntaxError):
        return False
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
            handed = [keyword.value for keyword in call.keywords if keyword.arg is None]
            if any(isinstance(n, ast.Name) and n.id == "kwargs" for v in handed for n in ast.walk(v)):
                return True
    return False


def words_of(kind: Any) -> frozenset[str]:
    """Every attribute name and short string in the modules of a class and its bases."""
    return frozenset().union(*map(_names_in, _modules(kind)))


def keys_taken_by(kind: Any) -> frozenset[str]:
    """Keys that a class or its bases take out of dicts by their name: ``x.pop("k")``, ``x.get("k")``, ``x["k"]``."""
    return frozenset().union(*map(_taken_in, _modules(kind)))


def strings_of(kind: Any) -> frozenset[str]:
    """Strings that a class or its bases compare with or look up: names that they give a meaning of their own."""
    return frozenset().union(*map(_strings_in, _modules(kind)))


def _modules(kind: Any) -> set[str]:
    """Where a class and its bases are written, without PyTorch and Python."""
    modules = {getattr(base, "__module__", "builtins") for base in getattr(kind, "__mro__", (kind,))}
    return {module for module in modules if module.split(".")[0] not in ("builtins", "torch", "abc")}


@cache
def _tree(module: str) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(importlib.import_module(module)))
    except (OSError, ImportError, SyntaxError):
        return ast.Module([], [])


@cache
def _names_in(module: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return frozenset(names)


@cache
def _taken_in(module: str) -> frozenset[str]:
    taken: list[ast.expr] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Subscript):
            taken.append(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("pop", "get"):
            taken += node.args[:1]
    return frozenset(one.value for one in taken if isinstance(one, ast.Constant) and isinstance(one.value, str))


@cache
def _strings_in(module: str) -> frozenset[str]:
    compared = [
        one
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Compare | ast.Dict)
        for side in ((node.left, *node.comparators) if isinstance(node, ast.Compare) else filter(None, node.keys))
        for one in ast.walk(side)
    ]
    return frozenset(one.value for one in compared if isinstance(one, ast.Constant) and isinstance(one.value, str))
