"""Turn other projects' checkpoints into ones that covidmm loads, without executing them unless told to trust one."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("source", metavar="IN", help="the file as published, or covidmm://NAME")
    files.add_argument("out", type=Path, metavar="OUT", help="the .pth to write, such as checkpoints/NAME.pth")
    yolov5 = kinds.add_parser("yolov5", parents=[files], help="a YOLOv5 detector, v5.0 to v7.0 (.pt)")
    yolov5.add_argument("--num-classes", type=int, help="leave the head out if the file has another number of classes")
    kinds.add_parser("torchvision", parents=[files], help="a ResNet or ResNeXt backbone of torchvision (.pth)")
    kinds.add_parser("timm", parents=[files], help="a ResNet or ResNeXt backbone of timm (.pth, .bin, .safetensors)")
    plain = kinds.add_parser("plain", parents=[files], help="the tensors of any file that torch wrote, names unchanged")
    plain.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="unpickle the file: THIS RUNS THE CODE OF WHOEVER MADE IT; for files of your own that are refused without",
    )


def run(args: argparse.Namespace) -> None:
    from covidmm.models.checkpoints import checkpoint_file

    source = checkpoint_file(args.source)
    from covidmm.models.checkpoint_conversion import convert_plain, convert_resnet, convert_yolov5

    if args.kind == "yolov5":
        lines = convert_yolov5(source, args.out, args.num_classes)
    elif args.kind == "plain":
        lines = convert_plain(source, args.out, args.trust_checkpoint)
    else:
        lines = convert_resnet(source, args.out, args.kind)
    print("\n".join(lines))
