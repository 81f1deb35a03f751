#!/usr/bin/env python3
"""Write a trained detector or classifier as an ONNX file, compared with PyTorch on 20 phantoms first."""

import _bootstrap  # noqa: F401

import argparse
import sys
from pathlib import Path

from covidmm.utils.command_line import run_tool


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=f"{__doc__} Research software, not a medical device.",
        epilog="Nothing is written when the two differ. Needs the extra 'export'.",
    )
    top.add_argument("config", help="the config that it was trained by")
    top.add_argument("checkpoint", help="a file, covidmm://NAME, or a work dir, whose best checkpoint is taken")
    top.add_argument("out", type=Path, metavar="OUT.onnx", help="the file to write")
    top.add_argument(
        "--score", type=float, default=0.3, help="boxes of lower confidence are not compared (default %(default)s)"
    )
    return top


def main() -> None:
    arguments = vars(parser().parse_args())
    from covidmm.inference.export import export

    metadata, found = export(**arguments)
    size = "x".join(map(str, metadata["input_size"]))
    print(f"{arguments['out']}: {metadata['kind']}, input {size}, batch {metadata['batch']}")
    compared = f"{found.boxes} boxes, worst IoU {found.worst_iou:.5f}, " if found.boxes else ""
    print(f"against PyTorch on {found.images} phantoms: {compared}worst difference of scores {found.worst_score:.1e}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
