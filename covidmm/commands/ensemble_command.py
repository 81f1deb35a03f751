"""Fuse several detectors over a folder, classify its studies, and write a submission."""

from __future__ import annotations

import argparse

ADVICE = "run the same command to resume"
# named here, so that --help need not import what writes them
EXPORTS = ("coco", "yolo", "voc", "table", "label-studio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="config of an ensemble, such as configs/ensemble_wbf_siim.py")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="radiographs: prepared by tools/prepare.py, raw SIIM, or any folder of DICOM, PNG, JPEG or TIFF files",
    )
    parser.add_argument("--split", help="of a prepared or raw SIIM folder (default: test, else train)")
    parser.add_argument("--out", metavar="FILE.csv", help="the submission (default: beside the predictions)")
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        help="where predictions are kept and looked for (default: work_dirs/<config name>)",
    )
    parser.add_argument("--strategy", metavar="NAME", help="another ensemble strategy, with its default numbers")
    parser.add_argument("--sample", metavar="FILE.csv", help="sample submission that the ids are checked against")
    parser.add_argument("--score", action="store_true", help="compare with the labels of the folder")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="search thresholds and weights on the validation split of a prepared folder; writes a table and a picture",
    )
    parser.add_argument(
        "--thresholds-from",
        metavar="PREPARED",
        help="with --score: the folder whose validation split chooses confidence thresholds, that of the training, or "
        "the operating.json of an earlier run (default: --data where it is that folder, else the earlier run here)",
    )
    parser.add_argument(
        "--allow-training-images",
        action="store_true",
        help="score and sweep on images that trained a member, too, and say so; otherwise that is an error",
    )
    parser.add_argument("--metrics", metavar="FILE.json", help="what was measured (default: beside the predictions)")
    parser.add_argument("--show-dir", metavar="DIR", help="pictures of truth, members and ensemble, with --score")
    parser.add_argument("--sr", metavar="DIR", help="write a DICOM Structured Report of every study (extra 'dicom')")
    parser.add_argument(
        "--sr-threshold",
        type=float,
        default=0.3,
        metavar="CONFIDENCE",
        help="least confidence of its boxes (default: %(default)s)",
    )
    parser.add_argument(
        "--sr-deidentify", action="store_true", help="leave out whose images they are, and replace their UIDs"
    )
    parser.add_argument(
        "--export",
        nargs="+",
        default=[],
        choices=EXPORTS,
        help="write the boxes beside the submission, for other programs to look at and correct: coco for CVAT and "
        "FiftyOne, label-studio, yolo with the confidence as the sixth number",
    )
    parser.add_argument(
        "--export-threshold",
        type=float,
        default=0.3,
        metavar="CONFIDENCE",
        help="least confidence of an exported box (default: %(default)s)",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="predict on the workers of this Dask scheduler (extra 'distributed')"
    )
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")


def run(args: argparse.Namespace) -> None:

    from covidmm.jobs.ensemble import Request, ensemble

    ensemble(Request(**{**vars(args), "cfg_options": tuple(args.cfg_options), "export": tuple(args.export)}))
