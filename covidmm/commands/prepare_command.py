"""Turn raw radiographs and labels into what training reads, draw synthetic ones, fit anchors, or export labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covidmm.prepare.layouts import LAYOUTS, layout_title

EPILOG = """\
After a kill the same command resumes the run. Files and rows that cannot be used are listed in
OUT/skipped.csv; the exit code is then 1, unless --allow-skipped is given."""
# named here, so that --help need not import what writes them
EXPORTS = ("coco", "yolo", "voc", "table")

ADVICE = "run the same command to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("raw", type=Path, metavar="RAW", help="the data set as published")
    common.add_argument("out", type=Path, metavar="OUT", help="the folder to make or to complete")
    common.add_argument("--max-size", type=int, default=1024, help="longer side of the PNGs at most (default 1024)")
    common.add_argument("--workers", type=int, help="processes (default: one per core)")
    common.add_argument(
        "--scheduler", metavar="ADDRESS", help="convert on the workers of this Dask scheduler (extra 'distributed')"
    )
    common.add_argument("--seed", type=int, default=0, help="seed of the splits (default 0)")
    common.add_argument("--val-fold", type=int, default=0, help="the fold, 0 to 4, that validates (default 0)")
    common.add_argument("--test-fraction", type=float, default=0.15, help="share held out for the test (default 0.15)")
    common.add_argument(
        "--split",
        choices=("auto", "train", "val", "test"),
        default="auto",
        help="put the whole folder into one split, as for an external test set (default auto: all three)",
    )
    common.add_argument("--mask-markers", action="store_true", help="paint over letters burned into the images")
    common.add_argument("--allow-skipped", action="store_true", help="exit with 0 even if something was skipped")
    noise = common.add_mutually_exclusive_group()
    noise.add_argument("--progress", action="store_true", default=None, help="show progress without a terminal too")
    noise.add_argument("--quiet", action="store_true", help="no progress and no summary, only errors")

    raw_layouts = {name: layouts.add_parser(name, parents=[common], help=layout_title(name)) for name in LAYOUTS}
    for name, one in raw_layouts.items():
        if name not in ("nih", "rsna", "siim"):  # whose labels name the patients
            one.add_argument(
                "--patient-from",
                metavar="PATTERN",
                help="regular expression for the patient in an image's path below RAW, such as '^(\\w+)_' "
                "(default: the labels or the DICOM header)",
            )
    raw_layouts["rsna"].add_argument("--negatives", action="store_true", help="keep images without a lung opacity too")
    nih = raw_layouts["nih"]
    nih.add_argument("--boxes", action="store_true", help="only the images with boxes, of eight findings")
    nih.add_argument("--negatives", action="store_true", help="with --boxes: keep images without a finding too")
    table = raw_layouts["table"]
    table.add_argument(
        "--columns",
        metavar="WHAT=NAME,...",
        help="names of columns that are not called as what they hold, such as image=image_id,x1=x_min,class=class_name",
    )
    table.add_argument("--table", metavar="FILE", help="the table below RAW (default: the only one there)")
    table.add_argument("--normalised", action="store_true", help="boxes are shares, 0 to 1, of their image, not pixels")
    for name in ("label-studio", "vindr"):
        raw_layouts[name].add_argument(
            "--readers",
            choices=("merge", "all", "consensus"),
            default="merge",
            help="what becomes of several readers' boxes: one for those that overlap (merge, the default), all of "
            "them, or only those that two readers drew (consensus)",
        )
    phantom = layouts.add_parser("phantom", help="write synthetic studies in the raw SIIM layout, or in VinDr-CXR's")
    phantom.add_argument("out", type=Path, metavar="OUT", help="the raw folder to make")
    phantom.add_argument("--studies", type=int, default=100, help="how many (default 100)")
    phantom.add_argument("--seed", type=int, default=0, help="seed of the studies (default 0)")
    phantom.add_argument(
        "--layout",
        dest="raw_layout",
        choices=("siim", "vindr"),
        default="siim",
        help="siim (the default): opacities and study classes; vindr: several findings, each drawn by three readers",
    )
    anchors = layouts.add_parser("anchors", help="fit YOLOv5 anchors to a prepared data set, and judge the default's")
    anchors.add_argument("annotations", type=Path, metavar="JSON", help="such as OUT/annotations/train.json")
    anchors.add_argument("--size", type=int, default=512, help="side of the network's input (default 512)")
    anchors.add_argument("--levels", type=int, choices=(3, 4), default=3, help="3, or 4 for P6 models (default 3)")
    anchors.add_argument("--seed", type=int, default=0, help="seed of the k-means (default 0)")
    exported = layouts.add_parser("export", help="write images and boxes as other programs read them")
    exported.add_argument("prepared", type=Path, metavar="PREPARED", help="a folder that this tool prepared")
    exported.add_argument("out", type=Path, metavar="OUT", help="the folder to make; an earlier export is replaced")
    exported.add_argument("--as", dest="kind", choices=EXPORTS, required=True, help="the layout")


def run(args: argparse.Namespace) -> int:
    arguments = vars(args)
    layout = arguments.pop("layout")
    if layout == "anchors":
        from covidmm.datasets.anchors import anchor_report

        print(anchor_report(**arguments))
        return 0
    out = arguments.pop("out")
    if layout == "export":
        from covidmm.outputs.label_export import export

        print(export(arguments["prepared"], out, arguments["kind"]))
        return 0
    if layout == "phantom":
        from covidmm.phantom import write_phantoms

        print(write_phantoms(out, layout=arguments.pop("raw_layout"), **arguments))
        return 0

    from covidmm.prepare.options import Options
    from covidmm.prepare.pipeline import prepare

    raw, quiet, allowed = (arguments.pop(name) for name in ("raw", "quiet", "allow_skipped"))
    if arguments["workers"] is None:
        del arguments["workers"]
    if quiet:
        arguments["progress"] = False
    summary = prepare(layout, raw, out, Options(**arguments))
    if not quiet:
        print(summary.text())
    if summary.skipped.total and not allowed:
        print(
            f"error: {summary.skipped.total} files or rows were skipped, see {out / 'skipped.csv'}",
            file=sys.stderr,
        )
        return 1
    return 0
