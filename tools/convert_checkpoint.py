#!/usr/bin/env python3
"""Turn other projects' checkpoints into ones that covidmm loads, without executing them unless told to trust one."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("convert"))
