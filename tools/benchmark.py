#!/usr/bin/env python3
"""Measure covidmm's speed beside the plain way of doing the same."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("benchmark"))
