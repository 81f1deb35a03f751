"""Measure covidmm's speed beside the plain way of doing the same."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from covidmm.commands import positive
from covidmm.errors import DataError


def number(name: str, default: int, what: str) -> tuple[str, dict[str, Any]]:
    """An option that takes a positive integer."""
    return name, {"type": positive, "default": default, "help": f"{what} (default {default})"}


def choice(name: str, choices: tuple[str, ...], what: str) -> tuple[str, dict[str, Any]]:
    """An option that takes one of some words, the first by default."""
    return name, {"choices": choices, "default": choices[0], "help": f"{what} (default {choices[0]})"}


BACKBONE = choice("--backbone", ("resnext101_32x8d", "resnet18"), "the report's, or a quick one")
REPEATS = number("--repeats", 5, "timed runs, of which the median")
CONFIG = ("--config", {"help": "config of the ensemble (default: the report's)"})
CONFIGS = ("--configs", {"nargs": "+", "metavar": "CONFIG", "help": "default: see docs/performance.md"})
OPTIONS = ("--options", {"nargs": "+", "metavar": "KEY=VALUE", "help": "overrides of the config"})

#: By subject, which is a module of benchmarks: what is measured, what it checks, and its options.
SUBJECTS: dict[str, tuple[str, str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "dicom": (
        "reading and preparing an uncompressed 12-bit DICOM, against pydicom on every pixel and Pillow",
        "the two differ by more than one grey level",
        (
            number("--height", 2800, "rows"),
            number("--width", 3000, "columns"),
            number("--repeats", 7, "timed runs, of which the median"),
        ),
    ),
    "pipeline": (
        "how fast data loading feeds each training, and how fast the training consumes",
        "",
        (CONFIGS, number("--images", 20, "loaded in each timed run"), REPEATS),
    ),
    "train": (
        "the training steps of all three models, each against what its users would otherwise run",
        "",
        (
            ("--models", {"nargs": "+", "choices": ("frcnn", "yolov5", "classifier"), "help": "default all"}),
            BACKBONE,
            REPEATS,
        ),
    ),
    "frcnn": (
        "training step of Faster R-CNN, against torchvision's",
        "",
        (
            BACKBONE,
            number("--pixels", 512, "side of the input"),
            number("--batch", 2, "images per step"),
            REPEATS,
            ("--precisions", {"nargs": "+", "choices": ("float32", "mixed"), "help": "default both"}),
        ),
    ),
    "yolov5": (
        "inference and training step of YOLOv5, against the package named yolov5 (extra 'parity')",
        "",
        (
            choice("--size", ("l", "n", "s", "m", "x"), "of the model"),
            number("--pixels", 512, "side of the input"),
            ("--batches", {"type": positive, "nargs": "+", "default": [1, 8], "help": "batch sizes (default 1 8)"}),
            REPEATS,
        ),
    ),
    "classifier": (
        "inference and training step of the finding classifier, against a plain torchvision loop",
        "",
        (BACKBONE, number("--pixels", 224, "side of the input"), number("--batch", 8, "images per step"), REPEATS),
    ),
    "ensemble": (
        "detectors and fusion from the file to the boxes, against MMDetection's models one by one",
        "",
        (
            CONFIG,
            OPTIONS,
            choice("--precision", ("auto", "float32", "bfloat16", "float16"), "of covidmm's way"),
            ("--no-augmentation", {"dest": "augmented", "action": "store_false", "help": "one view of each image"}),
            number("--images", 2, "phantoms in each call"),
            REPEATS,
        ),
    ),
    "infer": (
        "seconds per image of detectors on every backend and precision that runs here (extra 'export')",
        "",
        (CONFIGS, number("--batch", 4, "images per call"), REPEATS),
    ),
    "evaluate": (
        "average precision as covidmm takes it, against pycocotools",
        "a precision differs by more than 1e-12",
        (number("--images", 1267, "how many"), number("--boxes", 100, "predictions of each"), REPEATS),
    ),
    "fusion": (
        "the ensemble strategies on two members, against plain calls of ensemble_boxes",
        "a strategy differs by more than 1e-6 on more than one image of a hundred",
        (number("--images", 600, "how many; SIIM has 1263 to test"), number("--boxes", 100, "of each member"), REPEATS),
    ),
    "serve": (
        "how long clients of tools/serve.py wait for one radiograph, and the growth of its memory",
        "the memory grew by more than 5 %",
        (
            ("--config", {"help": "config of the ensemble (default: the models of `make demo`)"}),
            ("--file", {"help": "the radiograph (default: a phantom)"}),
            number("--requests", 100, "timed for each number of clients"),
            ("--clients", {"type": positive, "nargs": "+", "default": [1, 8], "help": "at once (default 1 8)"}),
            number("--memory-requests", 1000, "between two readings of the memory"),
        ),
    ),
    "scaling": (
        "two processes of one thread each against one: training, prepare and the ensemble of a folder",
        "",
        (number("--images", 48, "of each folder"), REPEATS),
    ),
    "startup": (
        "seconds of `--help` and until the first training iteration",
        "",
        (("--config", {"help": "of the training (default: the small Faster R-CNN)"}), REPEATS),
    ),
}


def measuring_code() -> Path:
    """The folder with the package ``benchmarks``: tools/ of a checkout, or where the wheel has it."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / ".mim/tools"
    return shipped if shipped.is_dir() else package.parent / "tools"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    for name, (measured, check, options) in SUBJECTS.items():
        epilog = f"Exit code 1 when {check}." if check else None
        subject = subjects.add_parser(name, help=measured, description=f"Measure {measured}.", epilog=epilog)
        for flag, settings in options:
            subject.add_argument(flag, **settings)
        subject.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="FILE",
            help="write the figures here too; without FILE, print them instead",
        )
    page = subjects.add_parser("page", help="put the tables of written figures into a Markdown page")
    page.add_argument("--page", type=Path, required=True, metavar="FILE.md")
    page.add_argument("--folder", type=Path, required=True, metavar="DIR", help="of NAME.json, as --json wrote them")


def run(args: argparse.Namespace) -> int:
    arguments = vars(args)
    sys.path.insert(0, str(measuring_code()))
    if arguments["subject"] == "page":
        from benchmarks.page import update_page  # here and below: `--help` needs none of it

        print(f"{arguments['page']}: {', '.join(update_page(arguments['page'], arguments['folder']))}")
        return 0
    subject, wanted = arguments.pop("subject"), arguments.pop("json")
    out = Path(wanted) if wanted not in (None, "-") else None
    if out is not None and (out.is_dir() or not out.parent.is_dir()):  # said before measuring, not after
        raise DataError(f"--json {out}: not a file in a folder that exists")
    from benchmarks.measure import format_measured, measure

    from covidmm.utils.fileio import json_bytes, write_bytes

    with redirect_stdout(sys.stderr):  # log lines of models and data sets
        report = measure(subject, **{name: value for name, value in arguments.items() if value is not None})
    print(json.dumps(report, indent=2) if wanted == "-" else format_measured(report))
    if out is not None:
        write_bytes(out, json_bytes(report, indent=2))
    return 0 if report.get("accepted", True) else 1
