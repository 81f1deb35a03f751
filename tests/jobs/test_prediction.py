"""Whole folders through random-weight models: files made, reused, resumed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import covidmm.ensembles
import covidmm.studies
from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import DataError
from covidmm.inference.detector import Detector
from covidmm.jobs import network_work as work
from covidmm.jobs.fusion import fuse_folder
from covidmm.jobs.prediction import FolderRun, classify_studies, predict_members
from covidmm.plugins import PluginManager


@pytest.fixture(scope="module")
def ensemble(random_ensemble):
    return load_ensemble(random_ensemble.config)


@pytest.fixture(scope="module")
def undisturbed(ensemble, random_ensemble, tmp_path_factory):
    run = FolderRun(ensemble, read_image_folder(random_ensemble.prepared), tmp_path_factory.mktemp("undisturbed"))
    predict_members(run)
    return run


@pytest.fixture
def again(undisturbed, tmp_path):
    """The same run in a folder that holds what the first one left."""
    shutil.copytree(undisturbed.folder, tmp_path / "predictions")
    return FolderRun(undisturbed.config, undisturbed.cases, tmp_path / "predictions")


class Uniform:
    """A study classifier that looks at nothing."""

    def __init__(self, values=(0.25,) * 4, **attributes):
        self.asked = []
        self.values = values
        vars(self).update(attributes)

    def classify(self, study):
        self.asked.append(study)
        return np.array(self.values)


class First:
    """A strategy that takes the first member's word."""

    def fuse(self, members, weights, size):
        return members[0]


def manager(classifier):
    plugins = PluginManager([covidmm.studies], installed=False)
    plugins.study_classifiers["mine"] = lambda: classifier
    return plugins


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_member_predicts_every_image_once(undisturbed, random_ensemble):
    assert sorted(contents(undisturbed.folder)) == ["frcnn.header.json", "frcnn.json", "yolo.header.json", "yolo.json"]
    assert undisturbed.fresh == ["frcnn", "yolo"]
    assert {"decode", "load", "frcnn", "yolo", "write"} == set(undisturbed.seconds)
    header = json.loads((undisturbed.folder / "yolo.header.json").read_text())
    assert [image["image_id"] for image in header["images"]] == [case.image_id for case in undisturbed.cases.images]
    assert {image["height"] for image in header["images"]} == {200}  # of the originals


def test_nothing_is_predicted_twice(again, monkeypatch):
    monkeypatch.setattr(work, "Detector", None)
    before = contents(again.folder)
    members = predict_members(again)
    assert list(members) == ["frcnn", "yolo"]
    assert again.fresh == []
    assert contents(again.folder) == before


def test_weights_and_thresholds_need_no_model(again, monkeypatch):
    monkeypatch.setattr(work, "Detector", None)
    changed = {name: replace(member, weight=2.0, score_threshold=0.3) for name, member in again.config.members.items()}
    predict_members(replace(again, config=replace(again.config, members=changed)))


def test_another_checkpoint_is_noticed(again, tmp_path, capsys):
    member = again.config.members["yolo"]
    (tmp_path / "other.pth").write_bytes(Path(member.checkpoint).read_bytes() + b"\0")
    members = {**again.config.members, "yolo": replace(member, checkpoint=str(tmp_path / "other.pth"))}
    run = replace(again, config=replace(again.config, members=members), fresh=[])
    predict_members(run)
    assert run.fresh == ["yolo"]
    assert "yolo.json: out of date (checkpoint_sha256 changed), predicting again" in capsys.readouterr().out


def test_other_data_is_noticed(again, random_ensemble, capsys):
    run = replace(again, cases=read_image_folder(random_ensemble.prepared, "val"), fresh=[])
    predict_members(run)
    assert run.fresh == ["frcnn", "yolo"]
    assert "out of date (data_sha256 changed)" in capsys.readouterr().out


def test_a_run_stopped_anywhere_ends_with_the_same_bytes(undisturbed, tmp_path, monkeypatch):
    calls = {"left": 3}
    real = Detector.__call__

    def stop(self, radiographs):
        calls["left"] -= 1
        if calls["left"] == 0:
            raise KeyboardInterrupt
        return real(self, radiographs)

    run = FolderRun(undisturbed.config, undisturbed.cases, tmp_path)
    monkeypatch.setattr(Detector, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_members(run)
    assert not list(tmp_path.glob("*.json"))
    monkeypatch.setattr(Detector, "__call__", real)
    predict_members(run)
    assert contents(tmp_path) == contents(undisturbed.folder)


def test_an_unreadable_image_keeps_its_place(ensemble, random_ensemble, tmp_path):
    shutil.copytree(random_ensemble.raw, tmp_path / "raw")
    broken = sorted((tmp_path / "raw/train").rglob("*.dcm"))[5]
    broken.write_bytes(broken.read_bytes()[:400])
    run = FolderRun(ensemble, read_image_folder(tmp_path / "raw"), tmp_path / "predictions")
    for member in predict_members(run).values():
        errors = {image.image_id: (image.error, len(found)) for image, found in member if image.error}
        assert list(errors) == [broken.stem]
        assert errors[broken.stem][1] == 0
        assert broken.name in errors[broken.stem][0]


def test_studies_are_classified_once_and_remembered(again):
    config = replace(again.config, study={"type": "mine"})
    run, classifier = replace(again, config=config, fresh=[]), Uniform((0.1, 0.2, 0.3, 0.4))
    fused = fuse_folder(run, First(), predict_members(run))
    studies = classify_studies(run, manager(classifier), fused, fused.fingerprint)
    assert set(studies) == {case.study_id for case in run.cases.images}
    assert studies[run.cases.images[0].study_id] == [0.1, 0.2, 0.3, 0.4]
    assert all(len(study.radiographs) == len(study.detections) for study in classifier.asked)
    assert classifier.asked[0].radiographs[0].pixels.size
    asked = len(classifier.asked)
    assert classify_studies(run, manager(classifier), fused, fused.fingerprint) == studies
    assert len(classifier.asked) == asked
    path = run.folder / "study.json"
    content = json.loads(path.read_text())
    for values in ([1], [float("nan")] * 4, "abcd", None):
        content["studies"][run.cases.images[0].study_id] = values
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"study\.json: damaged \(not four probabilities"):
            classify_studies(run, manager(classifier), fused, fused.fingerprint)


def test_another_fusion_asks_again_only_who_looks_at_boxes(again):
    for uses in (True, False):
        run = replace(again, config=replace(again.config, study={"type": "mine"}))
        classifier = Uniform(uses_detections=uses)
        fused = fuse_folder(run, First(), predict_members(run))
        (run.folder / "study.json").unlink(missing_ok=True)
        classify_studies(run, manager(classifier), fused, {"strategy": 1})
        asked = len(classifier.asked)
        classify_studies(run, manager(classifier), fused, {"strategy": 2})
        assert len(classifier.asked) == asked * (2 if uses else 1)


def test_who_needs_no_pixels_gets_none(again):
    run = replace(again, config=replace(again.config, study={"type": "mine"}))
    classifier = Uniform(uses_pixels=False)
    fused = fuse_folder(run, First(), predict_members(run))
    classify_studies(run, manager(classifier), fused, {})
    radiograph = classifier.asked[0].radiographs[0]
    assert radiograph.pixels.size == 0
    assert (radiograph.header.height, radiograph.header.width) == (200, 160)


@pytest.mark.parametrize("values", [(0.5, 0.5), (0.9, 0.9, 0, 0), (-0.1, 0.5, 0.3, 0.3), (float("nan"), 0, 0, 1)])
def test_what_is_no_probability_is_refused(again, values):
    run = replace(again, config=replace(again.config, study={"type": "mine"}))
    fused = fuse_folder(run, First(), predict_members(run))
    with pytest.raises(DataError, match=f"study '{run.cases.images[0].study_id}': .*not four probabilities"):
        classify_studies(run, manager(Uniform(values)), fused, {})


def test_the_report_s_classifier_runs_over_the_folder(again, ensemble):
    fused = fuse_folder(again, First(), predict_members(again))
    studies = classify_studies(again, manager(None), fused, {})
    assert all(sum(values) == pytest.approx(1, abs=1e-4) for values in studies.values())


def test_without_a_classifier_there_is_no_study_row(again):
    run = replace(again, config=replace(again.config, study=None))
    assert classify_studies(run, manager(None), fuse_folder(run, First(), predict_members(run)), {}) is None
