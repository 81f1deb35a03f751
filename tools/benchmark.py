#!/usr/bin/env python3
"""Measure what covidmm claims of its speed, beside the plain way of doing the same."""

import _bootstrap  # noqa: F401

import argparse
import sys
from pathlib import Path
from typing import Any

from covidmm.errors import DataError, run_tool


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__)
    subjects = top.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    dicom = subjects.add_parser(
        "dicom",
        help="reading an uncompressed 12-bit DICOM, against pydicom on every pixel",
        epilog="Exit code 1 when the two differ by more than one grey level.",
    )
    dicom.add_argument("--height", type=positive, default=2800, help="rows (default 2800)")
    dicom.add_argument("--width", type=positive, default=3000, help="columns (default 3000)")
    dicom.add_argument("--repeats", type=positive, default=7, help="timed runs, of which the median (default 7)")
    yolov5 = subjects.add_parser(
        "yolov5",
        help="inference and training step of YOLOv5, against the package named yolov5 (extra 'parity')",
    )
    yolov5.add_argument("--size", choices=("n", "s", "m", "l", "x"), default="l", help="default l")
    yolov5.add_argument("--pixels", type=positive, default=512, help="side of the input (default 512)")
    yolov5.add_argument("--batches", type=positive, nargs="+", default=[1, 8], help="batch sizes (default 1 8)")
    yolov5.add_argument("--repeats", type=positive, default=5, help="timed runs, of which the median (default 5)")
    frcnn = subjects.add_parser("frcnn", help="training step of Faster R-CNN, against torchvision's")
    frcnn.add_argument(
        "--backbone",
        choices=("resnext101_32x8d", "resnet18"),
        default="resnext101_32x8d",
        help="the report's, or a quick one (default resnext101_32x8d)",
    )
    frcnn.add_argument("--pixels", type=positive, default=512, help="side of the input (default 512)")
    frcnn.add_argument("--batch", type=positive, default=2, help="images per step (default 2)")
    frcnn.add_argument("--repeats", type=positive, default=5, help="timed runs, of which the median (default 5)")
    frcnn.add_argument("--precisions", nargs="+", choices=("float32", "mixed"), default=["float32", "mixed"])
    classifier = subjects.add_parser(
        "classifier", help="inference and training step of the finding classifier, against a plain torchvision loop"
    )
    classifier.add_argument(
        "--backbone",
        choices=("resnext101_32x8d", "resnet18"),
        default="resnext101_32x8d",
        help="the report's, or a quick one (default resnext101_32x8d)",
    )
    classifier.add_argument("--pixels", type=positive, default=224, help="side of the input (default 224)")
    classifier.add_argument("--batch", type=positive, default=8, help="images per step (default 8)")
    classifier.add_argument("--repeats", type=positive, default=5, help="timed runs, of which the median (default 5)")
    fusion = subjects.add_parser(
        "fusion",
        help="the ensemble strategies on two members, against plain calls of ensemble_boxes",
        epilog="Exit code 1 when a strategy differs by more than 1e-6 on more than one image of a hundred.",
    )
    fusion.add_argument("--images", type=positive, default=1263, help="default 1263")
    fusion.add_argument("--boxes", type=positive, default=100, help="boxes of each member (default 100)")
    fusion.add_argument("--repeats", type=positive, default=5, help="timed runs, of which the median (default 5)")
    infer = subjects.add_parser(
        "infer", help="seconds per image of detectors on every backend and precision that runs here (extra 'export')"
    )
    infer.add_argument(
        "--configs",
        nargs="+",
        metavar="CONFIG",
        help="detectors, with random weights (default: the small Faster R-CNN, RetinaNet and YOLOv5n)",
    )
    infer.add_argument("--batch", type=positive, default=4, help="images per call (default 4)")
    infer.add_argument("--repeats", type=positive, default=5, help="timed runs, of which the median (default 5)")
    serve = subjects.add_parser(
        "serve",
        help="how long clients of tools/serve.py wait for one radiograph, and the growth of its memory",
        epilog="Exit code 1 when the memory grew by more than 5 %.",
    )
    serve.add_argument("--config", help="config of the ensemble (default: the models of `make demo`)")
    serve.add_argument("--file", help="the radiograph (default: a phantom)")
    serve.add_argument("--requests", type=positive, default=100, help="timed for each number of clients (default 100)")
    serve.add_argument("--clients", type=positive, nargs="+", default=[1, 8], help="at the same time (default 1 8)")
    serve.add_argument("--memory-requests", type=positive, default=1000, help="default 1000")
    for subject in (dicom, yolov5, frcnn, classifier, fusion, infer, serve):
        subject.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return top


def main() -> int:
    arguments = vars(parser().parse_args())
    subject, out = arguments.pop("subject"), arguments.pop("json")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):  # said before measuring, not after
        raise DataError(f"--json {out}: not a file in a folder that exists")
    measure = {
        "dicom": measure_dicom,
        "yolov5": measure_yolov5,
        "frcnn": measure_frcnn,
        "classifier": measure_classifier,
        "fusion": measure_fusion,
        "infer": measure_infer,
        "serve": measure_serving,
    }[subject]
    report, equal = measure(**arguments)
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    if out is not None:
        from covidmm.atomic import json_bytes, write_bytes

        write_bytes(out, json_bytes(report, indent=2))
    return 0 if equal else 1


def measure_dicom(**arguments: int) -> tuple[dict, bool]:
    from covidmm.benchmarks import dicom

    comparisons = dicom.benchmark_dicom(**arguments)
    print(dicom.format_comparisons(comparisons))
    return dicom.dicom_report(comparisons, **arguments), all(one.equal for one in comparisons)


def measure_yolov5(**arguments: Any) -> tuple[dict, bool]:
    from covidmm.benchmarks import yolov5

    report = yolov5.benchmark_yolov5(**arguments)
    print(yolov5.format_timings(report))
    return report, True


def measure_frcnn(**arguments: Any) -> tuple[dict, bool]:
    from covidmm.benchmarks import frcnn

    report = frcnn.benchmark_frcnn(**arguments)
    print(frcnn.format_frcnn(report))
    return report, True


def measure_classifier(**arguments: Any) -> tuple[dict, bool]:
    from covidmm.benchmarks import classifier

    report = classifier.benchmark_classifier(**arguments)
    print(classifier.format_timings(report))
    return report, True


def measure_fusion(**arguments: int) -> tuple[dict, bool]:
    from covidmm.benchmarks import fusion

    report = fusion.benchmark_fusion(**arguments)
    print(fusion.format_fusion(report))
    return report, fusion.agrees(report)


def measure_infer(**arguments: Any) -> tuple[dict, bool]:
    from covidmm.benchmarks import infer

    report = infer.benchmark_infer(**{name: value for name, value in arguments.items() if value is not None})
    print(infer.format_infer(report))
    return report, True


def measure_serving(**arguments: Any) -> tuple[dict, bool]:
    from covidmm.benchmarks import serving

    report = serving.benchmark_serving(**arguments)
    print(serving.format_serving(report))
    return report, report["memory"]["growth"] <= serving.ACCEPTED_GROWTH


if __name__ == "__main__":
    sys.exit(run_tool(main))
