#!/usr/bin/env python3
"""Write a trained detector or classifier as an ONNX file, compared with PyTorch on 20 phantoms first."""

import _bootstrap  # noqa: F401

import sys

from covidmm.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("export"))
