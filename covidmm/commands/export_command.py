"""Write a trained detector or classifier as an ONNX file, compared with PyTorch on 20 phantoms first."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = "Nothing is written when the two differ. Needs the extra 'export'."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="the config that it was trained by")
    parser.add_argument("checkpoint", help="a file, covidmm://NAME, or a work dir, whose best checkpoint is taken")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="the file to write")
    parser.add_argument(
        "--score", type=float, default=0.3, help="boxes of lower confidence are not compared (default %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    arguments = vars(args)
    from covidmm.inference.export import export

    metadata, found = export(**arguments)
    size = "x".join(map(str, metadata["input_size"]))
    print(f"{arguments['out']}: {metadata['kind']}, input {size}, batch {metadata['batch']}")
    compared = f"{found.boxes} boxes, worst IoU {found.worst_iou:.5f}, " if found.boxes else ""
    print(f"against PyTorch on {found.images} phantoms: {compared}worst difference of scores {found.worst_score:.1e}")
