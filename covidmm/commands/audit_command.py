"""Check prepared data for leaks, duplicates, contradictions and shortcuts; models for subgroups and attention."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from covidmm.commands import positive

EPILOG = """\
Exit code: 0 where nothing or only warnings were found, 2 after a FAULT, 1 where the audit could not be made."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prepared", type=Path, nargs="+", metavar="PREPARED", help="folders of tools/prepare.py, or of COCO files"
    )
    parser.add_argument("--out", type=Path, default=Path("audit"), help="the folder to write (default audit/)")
    parser.add_argument("--predictions", type=Path, metavar="FILE.json", help="predictions of tools/test.py --out")
    parser.add_argument("--threshold", type=float, help="score that a predicted box needs, from validation")
    parser.add_argument("--classifier", nargs=2, metavar=("CONFIG", "CHECKPOINT"), help="whose Grad-CAM to look at")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")


def run(args: argparse.Namespace) -> int:
    from covidmm.audit.audit_files import summary_text
    from covidmm.audit.checks import Level, worst
    from covidmm.audit.full_audit import audit

    progress = False if args.quiet else None
    checks = audit(
        args.prepared,
        args.out,
        predictions=args.predictions,
        threshold=args.threshold,
        classifier=args.classifier,
        workers=args.workers,
        progress=progress,
    )
    if not args.quiet:
        print(summary_text(checks))
        print(f"\naudit: {args.out / 'audit.html'}")
    return 2 if worst([check.level for check in checks]) is Level.FAULT else 0
