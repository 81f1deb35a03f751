#!/usr/bin/env python3
"""Measure what covidmm claims of its speed, beside the plain way of doing the same."""

import _bootstrap  # noqa: F401

import argparse
import sys
from pathlib import Path

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
    dicom.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return top


def main() -> int:
    arguments = vars(parser().parse_args())
    arguments.pop("subject")
    out = arguments.pop("json")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):  # said before measuring, not after
        raise DataError(f"--json {out}: not a file in a folder that exists")

    from covidmm import benchmarks
    from covidmm.atomic import json_bytes, write_bytes

    comparisons = benchmarks.benchmark_dicom(**arguments)
    report = benchmarks.dicom_report(comparisons, **arguments)
    print(benchmarks.format_comparisons(comparisons))
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    if out is not None:
        write_bytes(out, json_bytes(report, indent=2))
    return 0 if all(one.equal for one in comparisons) else 1


if __name__ == "__main__":
    sys.exit(run_tool(main))
