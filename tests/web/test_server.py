"""Starting and stopping, as a person does it."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.helpers.tool_runs import ROOT, run_tool

pytestmark = pytest.mark.e2e  # starts the server

TOOL = [sys.executable, str(ROOT / "tools/serve.py")]


@pytest.mark.e2e
def test_the_tool_without_models_ends_with_one_line(tmp_path):
    ended = run_tool("serve.py", "--port", "0", env={"COVIDMM_CHECKPOINTS": str(tmp_path)})
    assert ended.code == 1
    (line,) = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert "_r18_siim: no " in line
    assert line.endswith("run `make demo`, which trains them in a few minutes")
    assert "Traceback" not in ended.output


@pytest.mark.e2e
def test_an_address_that_is_taken(random_ensemble):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_tool("serve.py", random_ensemble.config, "--port", port)
    assert ended.code == 1
    assert f"error: 127.0.0.1:{port}: " in ended.output


@pytest.mark.e2e
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_stopped(random_ensemble, tmp_path, stop, code):
    command = [*TOOL, str(random_ensemble.config), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        line = process.stdout.readline()
        while line and "http://" not in line:
            line = process.stdout.readline()
        try:
            assert "http://" in line, process.stderr.read()
            address = re.search(r"http://[\d.:]+", line)[0]
            with urllib.request.urlopen(f"{address}/healthz", timeout=120) as answer:
                assert answer.read() == b'{"status":"ok"}'
        finally:
            process.send_signal(stop)
            _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert errors.endswith("stopped; nothing is lost, the same command serves again\n")
    assert "Traceback" not in errors
    assert "GET /healthz 200" in errors
    assert not list(tmp_path.iterdir())


def test_warnings_that_quote_headers_are_not_shown():
    code = (
        "from covidmm.web.server import _log_to_stderr\nimport pydicom\n{}"
        "dataset = pydicom.Dataset()\ndataset.StudyInstanceUID = 'PLANTED_UID'\nprint(dataset.StudyInstanceUID)"
    )
    for before, shown in (("", True), ("_log_to_stderr()\n", False)):
        command = [sys.executable, "-W", "default", "-c", code.format(before)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("PLANTED_UID" in done.stderr) is shown
