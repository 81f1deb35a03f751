#!/usr/bin/env python3
"""Put the weights of a finished training into the checkpoint store, where configs find them by name."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("publish"))
