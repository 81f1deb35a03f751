"""The command ``covidmm``; a module of :mod:`covidmm.commands` for each word after it, and the tools of a checkout."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from covidmm import __version__
from covidmm.utils.command_line import run_tool

#: The words in the order in which people need them.
COMMANDS = (
    "demo",
    "prepare",
    "train",
    "test",
    "ensemble",
    "report",
    "audit",
    "serve",
    "configs",
    "new",
    "publish",
    "convert",
    "export",
    "benchmark",
)
NOTICE = "Research software, not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``covidmm WORD ...``.

    Args:
        arguments: those of the command line by default.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return run_command(given[0], given[1:], f"covidmm {given[0]}")
    parser = _whole_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # of a shell that asks for completions alone

        argcomplete.autocomplete(parser)
    parser.parse_args(given)
    parser.print_help()
    return 0


def run_command(word: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one command and turn expected failures into one line on stderr.

    Args:
        word: one of :data:`COMMANDS`.
        arguments: what follows it; those of the command line by default.
        prog: what help and usage call it; the file that was started by default.

    Returns:
        The exit code, see :func:`covidmm.utils.command_line.run_tool`.
    """
    module = _module(word)

    def work() -> int | None:
        return module.run(_filled(argparse.ArgumentParser(prog=prog), module).parse_args(arguments))

    return run_tool(work, getattr(module, "ADVICE", "run the same command again"))


def _module(word: str) -> ModuleType:
    return import_module(f"covidmm.commands.{word}_command")


def _filled(parser: argparse.ArgumentParser, module: ModuleType) -> argparse.ArgumentParser:
    parser.description = f"{module.__doc__} {NOTICE}"
    parser.epilog = getattr(module, "EPILOG", None)
    module.add_arguments(parser)
    return parser


def _whole_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="covidmm", description=f"Chest X-ray detection on MMDetection. {NOTICE}")
    parser.add_argument("--version", action="version", version=f"covidmm {__version__}")
    words = parser.add_subparsers(metavar="COMMAND", title="commands")
    for word in COMMANDS:
        module = _module(word)
        _filled(words.add_parser(word, help=str(module.__doc__).splitlines()[0]), module)
    return parser
