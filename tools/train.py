#!/usr/bin/env python3
"""Train the model that a config describes, or those of several configs, and compare them."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train"))
