"""What lies beside radiographs is never executed: modules, configs, pickles, start-up files."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
# names that Python, covidmm or a tool imports, some of them only in child processes
MODULES = [
    "threading",
    "selectors",
    "socket",
    "json",
    "numpy",
    "cv2",
    "torch",
    "covidmm",
    "sitecustomize",
    "usercustomize",
]


class Evil:
    def __init__(self, victim):
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


@pytest.fixture
def folder(random_ensemble, tmp_path):
    """A raw folder full of traps, each of which would make the folder ``victim``."""
    raw, victim = tmp_path / "raw", tmp_path / "victim"
    shutil.copytree(random_ensemble.raw, raw)
    for place in (raw, raw / "train"):
        for name in (*MODULES, "__init__", "config", "ensemble", "conftest", "_bootstrap"):
            (place / f"{name}.py").write_text(f"import os\nos.makedirs({str(victim)!r}, exist_ok=True)\n")
        for name in ("model.pth", "model.pkl", "data.npy"):
            (place / name).write_bytes(pickle.dumps(Evil(victim)))
        (place / "site.pth").write_text(f"import os; os.makedirs({str(victim)!r}, exist_ok=True)\n")
    return raw


def run(folder, *command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "COVIDMM_CHECKPOINTS": "."}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_traps_are_traps(folder):
    ended = run(folder, "-c", "import threading")
    assert ended.returncode == 0, ended.stderr
    assert (folder.parent / "victim").is_dir()


def test_nothing_beside_data_is_executed(folder, random_ensemble):
    prepared = run(folder, ROOT / "tools/prepare.py", "siim", ".", "../out", "--workers", "2", "--allow-skipped")
    assert prepared.returncode == 0, prepared.stderr
    ensemble = run(
        folder, ROOT / "tools/ensemble.py", random_ensemble.config, "--data", ".", "--predictions", "../predictions"
    )
    assert ensemble.returncode == 0, ensemble.stderr
    audit = run(folder, ROOT / "tools/audit.py", "../out", "--out", "../audit")
    assert audit.returncode in (0, 2), audit.stderr
    assert not (folder.parent / "victim").exists()


def test_the_server_s_decoding_child_imports_nothing_from_the_current_folder(folder):
    script = folder.parent / "decode.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from covidmm.radiograph.sandbox import IsolatedReader
with IsolatedReader(20, 2**31) as reader:
    print(reader.read(next(Path("train").rglob("image*.dcm")).read_bytes(), "a").pixels.shape)
""")
    ended = run(folder, script)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("(")
    assert not (folder.parent / "victim").exists()
