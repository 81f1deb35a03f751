"""The built wheel, installed outside any checkout: its configs, its command, and a project that is begun with it."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


class Installed:
    """An environment with covidmm's wheel; what covidmm needs is taken from the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "venv/bin/python"
        run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "-w",
            folder,
            ROOT,
        )
        (self.wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=False)
        # its .pth files, the one of the editable covidmm among them, are not read from there
        (site,) = (folder / "venv/lib").glob("python*/site-packages")
        (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
        self.install(self.wheel)

    def install(self, *what: object) -> None:
        options = ("-q", "--no-deps", "--no-index", "--no-build-isolation")
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *options, *what)

    def __call__(self, *command: object, cwd: Path, code: int = 0) -> str:
        return run(*command, cwd=cwd, code=code, path=self.python.parent)


def run(*command: object, cwd: Path | None = None, code: int = 0, path: Path | None = None) -> str:
    env = {key: value for key, value in os.environ.items() if not key.endswith("_ROOT") and key != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
    ended = subprocess.run(
        [str(one) for one in command],
        cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stdout[-4000:]
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_configs_tools_index_page_and_templates(installed, tmp_path):
    listed = installed("covidmm", "configs", cwd=tmp_path)
    paths = [path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    assert len(listed.splitlines()) == len(paths)
    place = installed(installed.python, "-c", "import covidmm; print(covidmm.__path__[0])", cwd=tmp_path).strip()
    assert ROOT not in Path(place).parents
    for part in (".mim/model-index.yml", ".mim/tools/train.py", ".mim/configs/metafile.yml", "web/static/index.html"):
        assert (Path(place) / part).is_file(), part
    assert "FasterRCNN" in installed("covidmm", "configs", "show", "covidmm::frcnn_x101_siim.py", cwd=tmp_path)
    assert "seconds" not in installed("covidmm", "benchmark", "fusion", "--help", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_one_line_that_says_how_to_get_it(installed, tmp_path):
    said = installed("covidmm", "serve", "--port", "0", cwd=tmp_path, code=1).strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert "`covidmm demo`" in said
    said = installed("covidmm", "train", "covidmm::small/frcnn_r18_siim.py", cwd=tmp_path, code=1).strip().splitlines()
    assert said[-1].startswith("error: data/siim/annotations/train.json: no such file")
    assert len(said) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_new_project_installs_and_passes_its_own_test(installed, tmp_path):
    assert "hospital: cd hospital && pip install -e . && pytest" in installed(
        "covidmm", "new", "hospital", cwd=tmp_path
    )
    project = tmp_path / "hospital"
    said = installed("covidmm", "new", "hospital", cwd=tmp_path, code=1)
    assert said.strip() == "error: hospital: is there already; name a folder that is not"
    for name in ("class", "covidmm", "3d", "nowhere/x"):
        assert installed("covidmm", "new", name, cwd=tmp_path, code=1).startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["hospital"]
    installed.install("--editable", project)
    tested = installed(installed.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert "5 passed" in tested
    assert "hospital::detector.py" in installed("covidmm", "configs", cwd=tmp_path)
    # from another folder: the data lie in the project of the config
    options = ["train_cfg.max_epochs=1", "train_dataloader.batch_size=2"]
    said = installed("covidmm", "train", "hospital::detector.py", "--cfg-options", *options, cwd=tmp_path)
    assert f"data: data/phantoms is not in the working directory, {project / 'data/phantoms'} is taken" in said
    scored = ["--data", project / "data/phantoms", "--score"]
    said = installed("covidmm", "ensemble", "hospital::ensemble.py", *scored, cwd=tmp_path)
    assert "mAP@.50" in said
    assert (tmp_path / "work_dirs/ensemble/test/metrics.json").is_file()
