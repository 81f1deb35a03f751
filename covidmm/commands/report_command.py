"""Figures, tables and cases of trainings, tests and ensembles on one page; or the card of one model."""

from __future__ import annotations

import argparse
from pathlib import Path

from covidmm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="WORK_DIR",
        help="folder of tools/train.py, tools/test.py or tools/ensemble.py, finished or not; or a folder of those",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[],
        metavar="PREPARED",
        help="folders of tools/prepare.py, or of COCO files, to show, alone or besides those that runs were tested on",
    )
    parser.add_argument(
        "--card",
        metavar="MODEL",
        help="write the card of a published checkpoint or a work dir; WORK_DIRs are then ensembles scored with it",
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="the folder to write (default report/)")


def run(args: argparse.Namespace) -> None:

    if not args.folders and not args.data and args.card is None:
        raise ConfigError("name at least one WORK_DIR, a data set by --data, or a model by --card")
    if args.card is not None:
        from covidmm.reports.card import write_card

        for path in write_card(args.card, args.folders, args.data, args.out):
            print(f"card: {path}")
        return
    from covidmm.reports.report_page import report

    print(f"report: {report(args.folders, args.data, args.out)}")
