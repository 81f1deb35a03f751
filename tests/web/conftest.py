"""The application on detectors with random weights, in process and behind a real socket."""

import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

import uvicorn
from fastapi.testclient import TestClient

from covidmm.inference import Predictor
from covidmm.radiograph.sandbox import IsolatedReader
from covidmm.web.app import Settings, create_app
from covidmm.web.service import Service
from covidmm.web.uploads import Limits


@pytest.fixture(scope="session")
def reader():
    with IsolatedReader(20, 4 * 2**30) as made:
        yield made


@pytest.fixture(scope="session")
def service(random_ensemble, reader):
    return Service(Predictor.from_config(random_ensemble.config, device="cpu"), reader)


@pytest.fixture(scope="session")
def settings():
    return Settings(Limits(request_bytes=4 * 2**20, total_bytes=6 * 2**20, files=3, seconds=5), queue_size=2)


@pytest.fixture
def client(service, settings):
    # as a browser sees it: a fault on the server is an answer, not an exception of the test
    return TestClient(create_app(service, settings), raise_server_exceptions=False)


@pytest.fixture(scope="session")
def server(service, settings):
    """A server behind a real socket: ``port`` and ``app``."""
    app = create_app(service, settings)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield SimpleNamespace(port=running.servers[0].sockets[0].getsockname()[1], app=app)
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def files(random_ensemble):
    """The DICOM files of a study with two images, and of another."""
    pair = sorted((random_ensemble.raw / "train" / "study000").rglob("*.dcm"))
    (other,) = sorted((random_ensemble.raw / "train" / "study001").rglob("*.dcm"))
    return [path.read_bytes() for path in (*pair, other)]


@pytest.fixture(scope="session")
def as_form():
    return lambda *contents: [("files", (f"{number}.dcm", content)) for number, content in enumerate(contents)]
