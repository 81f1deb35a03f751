"""List the configs that come with covidmm, show one resolved, or begin a file of one's own from it."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from covidmm.errors import ConfigError
from covidmm.utils.fileio import write_bytes
from covidmm.utils.packaged_configs import config_folders, config_path

EPILOG = "NAME is as in the list, such as covidmm::small/frcnn_r18_siim.py; any config file will do, too."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|copy")
    actions.add_parser("list", help="every config with a line (what is done without a word)")
    show = actions.add_parser("show", help="print a config with all that it inherits")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    copy = actions.add_parser("copy", help="write a file that inherits a config, to change what is to be different")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("out", nargs="?", type=Path, metavar="FILE", help="default: the config's own name, here")


def run(args: argparse.Namespace) -> None:
    if args.action == "show":
        print(resolved_text(args.name, args.cfg_options))
    elif args.action == "copy":
        print(f"{begin_config(args.name, args.out)}: inherits {args.name}")
    else:
        rows = [row for prefix, folder in config_folders().items() for row in listed(prefix, folder)]
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:<{width}}  {line}" for name, line in rows))


def listed(prefix: str, folder: Path) -> list[tuple[str, str]]:
    """Name and first line of each config of a package, without those that are only inherited."""
    paths = sorted(path for path in folder.rglob("*.py") if "_base_" not in path.parts and path.name != "__init__.py")
    return [(f"{prefix}::{path.relative_to(folder).as_posix()}", _first_line(path)) for path in paths]


def _first_line(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"(line {error.lineno}: {error.msg})"
    return (text.splitlines() or [""])[0]


def resolved_text(name: str, options: list[str]) -> str:
    """A config with all that it inherits, as the text of a config file."""
    from covidmm.engine.config import load_config, merge_options, read_config

    path = config_path(name)
    cfg = read_config(path)
    if "model" in cfg:
        return load_config(path, options).pretty_text
    merge_options(cfg, options, cfg.keys())
    return cfg.pretty_text


def begin_config(name: str, out: Path | None) -> Path:
    """Write a config that inherits another one.

    Raises:
        ConfigError: no such config, or a file that is there already.
    """
    path = config_path(name)
    if not path.is_file():
        raise ConfigError(f"{name}: no such config file")
    out = (out or Path(path.name)).expanduser()
    if out.is_dir():
        out = out / path.name
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another FILE")
    base = name if "::" in name else str(path.resolve())
    line = _first_line(path)
    write_bytes(out, f'"""Inherits {base}: {line}"""\n\n_base_ = "{base}"\n'.encode())
    return out
