import errno
import hashlib
import json
from pathlib import Path

import pytest
import torch

from covidmm.errors import DataError
from covidmm.evaluation.metrics_file import machine, provenance, write_metrics

FRCNN = {"mAP_50": 0.4091234, "mAP": 0.15, "f1": 0.547, "precision": 0.603, "recall": 0.503, "threshold": 0.31}


def test_detectors_meet_in_one_file(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    write_metrics(path, detectors={"frcnn": FRCNN}, seconds={"train": 10.0})
    content = write_metrics(path, detectors={"yolo": {"mAP_50": 0.345}}, seconds={"test": 2.0})
    assert content == json.loads(path.read_text())
    assert content == {
        "detectors": {"frcnn": FRCNN, "yolo": {"mAP_50": 0.345}},
        "seconds": {"train": 10.0, "test": 2.0},
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_a_second_run_replaces_its_own_numbers_alone(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, detectors={"frcnn": {**FRCNN, "f1_of_before": 0.9}, "yolo": {"mAP_50": 0.3}})
    content = write_metrics(path, detectors={"frcnn": {**FRCNN, "mAP_50": 0.5}})
    assert content["detectors"] == {"frcnn": {**FRCNN, "mAP_50": 0.5}, "yolo": {"mAP_50": 0.3}}


def test_the_metrics_of_one_classifier_never_mix_with_another_s(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, study={"f1": 0.5, "confusion": {}}, competition={"score": 0.4}, seconds={"a": 1.0})
    content = write_metrics(path, study={"f1": 0.6}, competition=None)
    assert content == json.loads(path.read_text()) == {"study": {"f1": 0.6}, "seconds": {"a": 1.0}}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("", "is not JSON"),
        ('{"detectors": {', "is not JSON"),
        ("[1]", "does not hold sections"),
        ('{"detectors": 3}', "does not hold sections"),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, damage, message):
    path = tmp_path / "metrics.json"
    path.write_text(damage)
    with pytest.raises(DataError, match=message) as caught:
        write_metrics(path, detectors={})
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert path.read_text() == damage


def test_not_a_number_is_refused(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, study={"auroc": 0.5})
    with pytest.raises(DataError, match="not a number"):
        write_metrics(path, study={"auroc": float("nan")})
    assert json.loads(path.read_text()) == {"study": {"auroc": 0.5}}


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_metrics(path, study={"auroc": 0.5})

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_metrics(path, study={"auroc": 0.6})
    assert json.loads(path.read_text()) == {"study": {"auroc": 0.5}}


@pytest.fixture
def job(tmp_path):
    """Config, checkpoint and annotations of a job, with what is in them."""
    contents = {"config.py": b"model = dict()\n", "epoch_1.pth": b"\0" * 3_000_000, "data/annotations/test.json": b"{}"}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents], [
        hashlib.sha256(content).hexdigest() for content in contents.values()
    ]


def origin(config, checkpoint, annotations):
    return provenance(config, "ab" * 32, checkpoint, annotations)


def test_provenance(job):
    paths, digests = job
    found = origin(*paths)
    assert [found[f"{part}_sha256"] for part in ("config", "checkpoint", "data")] == digests
    assert [found[part] for part in ("config", "checkpoint", "data")] == list(map(str, paths))
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert "prepared_sha256" not in found
    json.dumps(found)


def test_provenance_knows_the_prepared_data_set(job):
    paths, _ = job
    manifest = paths[2].parent.parent / "prepared.json"
    manifest.write_text('{"data_sha256": "abc"}')
    assert origin(*paths)["prepared_sha256"] == "abc"
    for damaged in ("{", "[]", "{}"):
        manifest.write_text(damaged)
        with pytest.raises(DataError, match=r"prepared.json: no JSON with a data_sha256"):
            origin(*paths)


def test_machine():
    assert machine()["cpus"] >= 1
    assert (machine()["gpu"] is None) == (not torch.cuda.is_available())
