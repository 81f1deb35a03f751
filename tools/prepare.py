#!/usr/bin/env python3
"""Turn raw radiographs and labels into what training reads, draw synthetic ones, fit anchors, or export labels."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("prepare"))
