"""The Dockerfile, without an engine: its steps as plain commands, and its server in a read-only root.

What is not done here: the base image, and the installation of the lock, which takes gigabytes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
PORT = "5987"
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line and not line.startswith("#")]


def arguments(name):
    return [value for step, value in STEPS if step == name]


def settings():
    pairs = (pair.split("=", 1) for value in arguments("ENV") for pair in value.split())
    return dict(pairs)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_lock_is_cut_to_the_device(device, tmp_path):
    first, second = arguments("RUN")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    script = first.replace("/tmp/", f"{tmp_path}/")
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, env=os.environ | {"DEVICE": device}, check=True)
    whole = set((ROOT / "requirements.lock").read_text().splitlines())
    kept = (tmp_path / "device.lock").read_text().splitlines()
    dropped = {line.split("==")[0] for line in whole.difference(kept)}
    assert {"pytest", "ruff"} <= dropped
    assert ("nvidia-cublas" in dropped) == ("triton" in dropped) == (device == "cpu")
    assert not dropped & {"torch", "torchvision", "pydicom", "opencv-python-headless", "onedl-mmdetection"}
    assert [line.split("==")[0] for line in (tmp_path / "torch.lock").read_text().splitlines()] == [
        "torch",
        "torchvision",
    ]
    asked = subprocess.run(
        ["sh", "-euc", f"pip() {{ echo pip $*; }}; python() {{ :; }}; {second}"],
        env=os.environ | {"TORCH_OPTIONS": "--find-links WHEELS" if device == "cpu" else ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert ("--find-links WHEELS" in asked[0]) == (device == "cpu")
    assert all("--no-deps" in line for line in asked)


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for value in arguments("COPY"):
        source = value.split()[0]
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_it_has_no_rights_and_has_a_health_check():
    assert arguments("USER") == ["10001:10001"]
    assert "CMD" in arguments("HEALTHCHECK")[0]
    assert json.loads(arguments("ENTRYPOINT")[0])[1:] == ["tools/serve.py", "--host", "0.0.0.0"]


@pytest.mark.e2e
def test_it_serves_from_a_read_only_root(random_ensemble, tmp_path):
    """A mount namespace in which everything is read-only but an empty /tmp in memory, and a user without rights.

    Where the interpreter lies in a home that only its owner enters, the user stays who it is, with a warning.
    """
    pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
    shutil.copytree(random_ensemble.config.parent, tmp_path / "models", ignore=shutil.ignore_patterns("raw", "prep*"))
    config = tmp_path / "models" / "ensemble.py"
    config.write_text(config.read_text().replace(f"{random_ensemble.config.parent}/", "/mnt/models/"))
    hide = ["mount --make-rprivate /", f"mount --bind {tmp_path} /mnt", "mount -t tmpfs none /tmp"]
    # a mount that another one hides cannot be changed, and needs not be
    mounts = "awk '$2 !~ /^.(proc|sys|dev|tmp)/ {print $2}' /proc/mounts"
    hide.append(f"for place in $({mounts}); do mount -o remount,ro,bind $place 2>/dev/null || true; done")
    nobody = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
    seen = [*nobody, sys.executable, "-c", "import os, sys; sys.exit(not os.path.exists(sys.executable))"]
    if subprocess.run(seen, check=False).returncode:
        warnings.warn(f"{sys.executable} is closed to others: the server runs as the user of the test", stacklevel=1)
        nobody = []
    user = f'exec {" ".join(nobody)} "$@"'
    tool = [sys.executable, str(ROOT / "tools/serve.py"), "/mnt/models/ensemble.py", "--device", "cpu"]
    tool += ["--port", PORT]
    inside = ["unshare", "--mount", "sh", "-euc", "; ".join([*hide, "cd /", user]), "sh"]
    for folder in (tmp_path, config.parent):
        folder.chmod(0o755)
    probe = subprocess.run([*inside, "touch", "/mnt/x"], capture_output=True, text=True, check=False)
    if "Read-only file system" not in probe.stderr and "Permission denied" not in probe.stderr:
        pytest.skip(f"no mount namespace here: {probe.stderr.strip()}")
    env = {"PATH": os.environ["PATH"], **settings()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*inside, *tool], env=env, text=True, **pipes) as server:
        try:
            lines = iter(server.stdout.readline, "")
            said = []
            assert any(said.append(line) or "http://" in line for line in lines), "".join(said)
            check = json.loads(arguments("HEALTHCHECK")[0].partition("CMD")[2])
            check = [sys.executable, *(part.replace("5000", PORT) for part in check[1:])]
            assert subprocess.run(check, check=False).returncode == 0
            assert predicted(f"http://127.0.0.1:{PORT}", next(random_ensemble.raw.rglob("*.dcm"))) == 200
        finally:
            server.terminate()
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0


def predicted(address, path):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{address}/api/v1/predict", head + path.read_bytes() + b"\r\n--x--\r\n", headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status
