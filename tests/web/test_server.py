"""Starting and stopping, as a person does it."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pydicom
import pytest

from covidmm.errors import ConfigError
from tests.helpers.tool_runs import ROOT, run_tool, shared_server, start_tool

pytestmark = pytest.mark.e2e  # starts the server

TOOL = [sys.executable, str(ROOT / "tools/serve.py")]


@pytest.mark.e2e
def test_the_tool_without_models_ends_with_one_line(tmp_path):
    ended = run_tool("serve.py", "--port", "0", env={"COVIDMM_CHECKPOINTS": str(tmp_path)})
    assert ended.code == 1
    (line,) = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert "_r18_siim: no " in line
    assert line.endswith("run `covidmm demo`, or `make demo` in a checkout, which trains them in a few minutes")
    assert "Traceback" not in ended.output


@pytest.mark.e2e
def test_an_address_that_is_taken(random_ensemble):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_tool("serve.py", random_ensemble.config, "--port", port)
    assert ended.code == 1
    assert f"error: 127.0.0.1:{port}: " in ended.output


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--dicom-port", "0"), "--dicom-port needs --sr-dir or --sr-to: reports would go nowhere"),
        (("--sr-dir", "sr"), "--sr-dir, --sr-to and --sr-deidentify are those of the DICOM node"),
        (("--dicom-port", "0", "--sr-dir", "/proc/sr"), "--sr-dir: /proc/sr: cannot be written"),
        (("--dicom-port", "0", "--sr-dir", "sr", "--dicom-ae", "A" * 17), f"--dicom-ae: '{'A' * 17}' is no title"),
        (
            ("--dicom-port", "0", "--sr-dir", "sr", "--sr-threshold", "2"),
            "--sr-threshold: expected a confidence in 0..1",
        ),
        (("--dicom-port", "0", "--sr-dir", "sr", "--sr-threshold", "nan"), "--sr-threshold: expected a confidence in"),
        (("--dicom-port", "0", "--sr-dir", "sr", "--study-timeout", "0"), "--study-timeout: expected seconds above 0"),
        (("--dicom-port", "5000", "--sr-dir", "sr"), "127.0.0.1:5000: is the address of --port and of --dicom-port"),
    ],
)
def test_a_node_that_cannot_work_is_refused_before_the_models_are_loaded(tmp_path, options, line):
    # the config does not exist: whoever reads it ends with another line
    ended = run_tool("serve.py", tmp_path / "none.py", *options, cwd=str(tmp_path))
    assert ended.code == 1
    assert [one for one in ended.output.splitlines() if "error: " in one] == [ended.last_line]
    assert ended.last_line.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
def test_a_port_of_the_node_that_is_taken(random_ensemble, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--port", "0", "--dicom-port", port, "--sr-dir", tmp_path / "sr", "--device", "cpu"]
        ended = run_tool("serve.py", random_ensemble.config, *options)
    assert ended.code == 1
    assert ended.last_line.startswith(f"error: 127.0.0.1:{port}: ")
    assert "Traceback" not in ended.output


@pytest.mark.e2e
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_stopped(random_ensemble, tmp_path, stop, code):
    server = start_tool("serve.py", random_ensemble.config, "--port", 0, "--device", "cpu", cwd=str(tmp_path))
    try:
        server.wait_for(r"http://[\d.:]+ ")
        address = re.search(r"http://[\d.:]+", server.log.read_text())[0]
        with urllib.request.urlopen(f"{address}/healthz", timeout=120) as answer:
            assert answer.read() == b'{"status":"ok"}'
    finally:
        server.send(stop)
        ended = shared_server().wait(server)
    assert ended.code == code, ended.output
    assert ended.output.endswith("stopped; nothing is lost, the same command serves again\n")
    assert "Traceback" not in ended.output
    assert "GET /healthz 200" in ended.output
    assert not list(tmp_path.iterdir())


@pytest.mark.e2e
def test_images_that_wait_when_it_is_stopped_are_reported_first(random_ensemble, tmp_path):
    pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
    options = ["--port", "0", "--dicom-port", "0", "--sr-dir", str(tmp_path / "sr"), "--study-timeout", "3600"]
    command = [*TOOL, str(random_ensemble.config), *options, "--device", "cpu"]
    image = pydicom.dcmread(next((random_ensemble.raw / "train").rglob("*.dcm")))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    image.SeriesInstanceUID = pydicom.uid.generate_uid()
    image.save_as(tmp_path / "image.dcm")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline()]
        while lines[-1] and "http://" not in lines[-1]:
            lines.append(process.stdout.readline())
        try:
            port = re.search(r"DICOM node COVIDMM at 127\.0\.0\.1:(\d+)", "".join(lines))[1]
            send = [sys.executable, "-m", "pynetdicom", "storescu", "127.0.0.1", port, str(tmp_path / "image.dcm")]
            assert subprocess.run(send, check=False, timeout=120).returncode == 0
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "a study of 1 images: reported" in errors
    (report,) = (tmp_path / "sr").iterdir()
    assert pydicom.dcmread(report).PatientID == image.PatientID
    assert str(image.PatientID) not in errors


def test_warnings_that_quote_headers_are_not_shown():
    code = (
        "from covidmm.web.server import _log_to_stderr\nimport pydicom\n{}"
        "dataset = pydicom.Dataset()\ndataset.StudyInstanceUID = 'PLANTED_UID'\nprint(dataset.StudyInstanceUID)"
    )
    for before, shown in (("", True), ("_log_to_stderr()\n", False)):
        command = [sys.executable, "-W", "default", "-c", code.format(before)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("PLANTED_UID" in done.stderr) is shown


def test_a_taken_port_of_the_node_and_a_strange_device_are_said_before_models_load(monkeypatch, tmp_path):
    from covidmm.web import server
    from covidmm.web.dicom_node import NodeSettings

    monkeypatch.setattr(server, "make_service", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: .*choose another with --host and --dicom-port"):
            server.serve(port=0, node=NodeSettings(port, folder=tmp_path))
    with pytest.raises(ConfigError, match="--device gpu: "):
        server.serve(port=0, device="gpu")
