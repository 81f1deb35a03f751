"""Load the models, listen at an address, serve until stopped."""

from __future__ import annotations

import logging
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import uvicorn
from mmengine.logging import MMLogger

from covidmm import radiograph
from covidmm.errors import CheckpointError, ConfigError
from covidmm.inference import Predictor
from covidmm.radiograph.sandbox import DECODE_BYTES, IsolatedReader
from covidmm.web.app import Settings, create_app
from covidmm.web.service import Question, Service

if TYPE_CHECKING:
    from covidmm.web.dicom_node import NodeSettings

#: What ``covidmm demo`` trains and publishes.
DEMO_CONFIG = "covidmm::phantom/ensemble_wbf_phantom.py"
#: For one file. Chosen here.
DECODE_SECONDS = 20.0


def make_service(config: str | Path | None, device: str | None = None) -> Service:
    """Load the models of an ensemble, by default of the demo's.

    Raises:
        CovidmmError: a config or checkpoint cannot be used; without a config the message names the command that
            trains the demo's models.
    """
    try:
        predictor = Predictor.from_config(config or DEMO_CONFIG, device=device)
    except CheckpointError as error:
        if config is not None:
            raise
        raise CheckpointError(
            f"{error}; run `covidmm demo`, or `make demo` in a checkout, which trains them in a few minutes"
        ) from error
    service = Service(predictor, IsolatedReader(DECODE_SECONDS, DECODE_BYTES))
    # the first prediction compiles and fills caches, which takes seconds
    service.predict(Question(attention=True), [radiograph.of_array(np.zeros((256, 256), np.uint8))])
    return service


def serve(
    config: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    settings: Settings | None = None,
    device: str | None = None,
    node: NodeSettings | None = None,
) -> None:
    """Serve until ctrl-C or SIGTERM.

    Raises:
        CovidmmError: as :func:`make_service`, or an address cannot be used.
    """
    if node is not None and node.port == port and port and node.host == host:
        raise ConfigError(f"{host}:{port}: is the address of --port and of --dicom-port; choose two")
    _require_device(device)
    if node is not None and node.port:
        _require_free(node.host, node.port)
    _log_to_stderr()
    # else MMEngine logs the variables that each config reads
    MMLogger.get_instance("covidmm", log_level="WARNING")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port}: {error.strerror}; choose another with --host and --port") from None
        service = make_service(config, device)
        app = create_app(service, settings)
        if node is not None:
            from covidmm.web.dicom_node import DicomNode  # needs the extra 'dicom'

            dispatcher = app.state.dispatcher
            dispatcher.node = DicomNode(service, dispatcher.queues["predict"], node)
            print(f"DICOM node {node.title} at {node.host}:{dispatcher.node.port}")
        listener.listen()  # from now on clients wait and are not refused
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]} (ctrl-C stops it)", flush=True)
        # uvicorn's access log would contain whatever clients put into the address
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))
        server.run(sockets=[listener])


def _require_free(host: str, port: int) -> None:
    """Refuse an address of the DICOM node that is taken, before models are loaded; the node takes it itself later."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port}: {error.strerror}; choose another with --host and --dicom-port") from None


def _require_device(name: str | None) -> None:
    """Refuse a device that PyTorch does not know or that this machine does not have."""
    try:
        if name is not None:
            torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"--device {name}: {(str(error).splitlines() or [''])[0]}") from None


def _log_to_stderr() -> None:
    # pydicom's warnings quote values of headers
    warnings.filterwarnings("ignore", module="pydicom")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("covidmm.web", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
