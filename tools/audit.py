#!/usr/bin/env python3
"""Check prepared data for leaks, duplicates, contradictions and shortcuts; models for subgroups and attention."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("audit"))
