#!/usr/bin/env python3
"""List the configs that come with covidmm, show one resolved, or begin a file of one's own from it."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("configs"))
