#!/usr/bin/env python3
"""Fuse several detectors over a folder, classify its studies, and write a submission."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("ensemble"))
