#!/usr/bin/env python3
"""Serve an ensemble as a web application: a page to look at radiographs with, and an API."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("serve"))
