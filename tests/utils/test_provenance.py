"""Provenance of outputs: hashes, versions, the commit."""

import subprocess
from pathlib import Path

import pytest

from covidmm.engine.config import load_config
from covidmm.errors import DataError
from covidmm.utils import provenance as module
from covidmm.utils.provenance import git_revision, hash_lines, resolved_sha256, sha256, versions

ROOT = Path(__file__).parents[2]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.pth: no such file"):
        sha256(tmp_path / "gone.pth")


def test_versions_are_those_that_are_imported():
    import mmcv
    import mmdet
    import mmengine

    found = versions()
    assert (found["mmdet"], found["mmcv"], found["mmengine"]) == (
        mmdet.__version__,
        mmcv.__version__,
        mmengine.__version__,
    )
    assert {"covidmm", "python", "torchvision", "pycocotools"} < set(found)


def test_the_hash_of_a_config_is_of_what_it_says():
    config = {"model": {"type": "A", "depth": 18}, "seed": 0, "work_dir": "a"}
    same = {"seed": 0, "work_dir": "b", "launcher": "pytorch", "model": {"depth": 18, "type": "A"}}
    assert resolved_sha256(config) == resolved_sha256(same)
    for change in ({"seed": 1}, {"model": {"type": "A", "depth": 34}}, {"more": None}, {"load_from": "x.pth"}):
        assert resolved_sha256({**config, **change}) != resolved_sha256(config)


def test_a_config_is_the_same_wherever_its_data_lie_and_when_it_is_resumed():
    def config(root, **more):
        dataset = {"dataset": {"type": "A", "data_root": root, "prefix": "images/"}}
        return {"train": [dataset], "root": root, "metric": {"ann_file": f"{root}/annotations/val.json"}, **more}

    same = config("data/siim", load_from=None)
    assert resolved_sha256(same) == resolved_sha256(config("/mnt/disk/siim", load_from=None))
    assert resolved_sha256(same) == resolved_sha256(config("x", load_from="epoch_1.pth", resume=True))
    started = config("x", load_from="a/backbone.pth")
    assert resolved_sha256(started) == resolved_sha256({**started, "load_from": "/b/backbone.pth"})
    assert resolved_sha256(started) != resolved_sha256({**started, "load_from": "a/other.pth"})
    other = config("data/siim", load_from=None) | {"metric": {"ann_file": "data/siim2/annotations/val.json"}}
    assert resolved_sha256(same) != resolved_sha256(other)


def test_the_hashes_of_an_ensemble_are_told_line_by_line():
    members = {"yolo": {"config": "y.py", "checkpoint_sha256": "b"}}
    origin = {"config_resolved_sha256": "a", "members": members, "study_checkpoints_sha256": ["c", "d"]}
    assert hash_lines(origin) == [
        "config sha256: a",
        "yolo checkpoint sha256: b",
        "study checkpoint sha256: c",
        "study checkpoint sha256: d",
    ]


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_revision(tmp_path, monkeypatch):
    code = tmp_path / "covidmm" / "utils" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    monkeypatch.setattr(module, "__file__", str(code))
    assert git_revision() is None
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    _git(tmp_path, "tag", "-a", "v1", "-m", "a tag must not hide the commit")
    assert git_revision() == _git(tmp_path, "rev-parse", "HEAD")
    code.write_text("edited")
    assert git_revision() == _git(tmp_path, "rev-parse", "HEAD") + "+changes"
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


@pytest.mark.parametrize("name", ["frcnn_r18_siim", "yolov5n_rsna_siim", "retinanet_r18_siim"])
def test_the_hash_of_a_config_of_ours_survives_another_data_folder(name, monkeypatch):
    hashes = set()
    for root in ("data/siim", "/elsewhere/data"):
        monkeypatch.setenv("SIIM_ROOT", root)
        hashes.add(resolved_sha256(load_config(ROOT / f"configs/small/{name}.py").to_dict()))
    assert len(hashes) == 1
