#!/usr/bin/env python3
"""Figures, tables and cases of trainings, tests and ensembles on one page; or the card of one model."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("report"))
