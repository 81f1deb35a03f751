"""The application on detectors with random weights, in process and behind a real socket."""

import shutil
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

PATIENCE = 120_000  # ms: no test waits so long but one that hangs


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


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page at a size; at the end nothing was asked of another host and no script failed."""
    address = f"http://127.0.0.1:{server.port}/"
    contexts, asked, faults = [], [], []

    def opened(size=(1280, 800), **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        page.locator("[name=detector]").nth(2).wait_for(state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert asked
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []
