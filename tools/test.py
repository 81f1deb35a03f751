#!/usr/bin/env python3
"""Evaluate a checkpoint on the test split of a config."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("test"))
