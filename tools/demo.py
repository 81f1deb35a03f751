#!/usr/bin/env python3
"""The main job on phantoms: prepare, train, test, fuse, submit, score, draw, report. What ``make demo`` runs."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("demo"))
