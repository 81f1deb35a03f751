#!/usr/bin/env python3
"""Begin a project of your own: a package with a loss, a transform, a strategy, a classifier, configs and a test."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("new"))
