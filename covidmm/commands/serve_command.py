"""Serve an ensemble as a web application: a page to look at radiographs with, and an API."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from covidmm.commands import positive
from covidmm.errors import ConfigError

ADVICE = "nothing is lost, the same command serves again"


def port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"expected a port between 0 and 65535, got {value}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", help="config of an ensemble (default: the models of `make demo`)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (%(default)s)")
    parser.add_argument("--port", type=port, default=5000, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--queue", type=positive, default=16, help="requests that may wait (default %(default)s)")
    parser.add_argument("--max-upload", type=positive, default=128, metavar="MB", help="default %(default)s")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    node = parser.add_argument_group("DICOM node (extra 'dicom')")
    node.add_argument("--dicom-port", type=port, help="listen for DICOM images here too; 0 takes a free one")
    node.add_argument("--dicom-ae", default="COVIDMM", metavar="TITLE", help="its title (default %(default)s)")
    node.add_argument("--sr-dir", type=Path, metavar="DIR", help="store its Structured Reports here")
    node.add_argument("--sr-to", metavar="HOST:PORT:TITLE", help="send its Structured Reports there")
    node.add_argument(
        "--sr-threshold",
        type=float,
        default=0.3,
        metavar="CONFIDENCE",
        help="least confidence of its boxes (default %(default)s)",
    )
    node.add_argument(
        "--sr-deidentify", action="store_true", help="leave out whose images they are, and replace their UIDs"
    )
    node.add_argument(
        "--study-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="without an image after which a study is reported (default %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise ConfigError("the web application is not installed: pip install 'covidmm[web]'")

    from covidmm.web.app import Settings
    from covidmm.web.server import serve
    from covidmm.web.uploads import Limits

    limits = Limits(request_bytes=args.max_upload * 2**20, total_bytes=4 * args.max_upload * 2**20)
    settings = None
    if args.dicom_port is not None:
        from covidmm.web.dicom_node import NodeSettings, Peer  # needs the extra 'dicom'

        settings = NodeSettings(
            args.dicom_port,
            args.host,
            args.dicom_ae,
            args.sr_dir,
            Peer.parse(args.sr_to) if args.sr_to else None,
            args.sr_threshold,
            limits.request_bytes,
            limits.total_bytes,
            study_seconds=args.study_timeout,
            deidentify=args.sr_deidentify,
        )
    elif args.sr_dir or args.sr_to or args.sr_deidentify:
        raise ConfigError("--sr-dir, --sr-to and --sr-deidentify are those of the DICOM node: --dicom-port starts it")
    serve(args.config, args.host, args.port, Settings(limits, args.queue), args.device, settings)
