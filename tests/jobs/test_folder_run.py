"""Whole folders through random-weight models: files made, reused, resumed, fused, classified."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import covidmm.ensembles
import covidmm.studies
from covidmm.datasets.image_folders import ImageFolder, read_image_folder
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member, load_ensemble
from covidmm.errors import DataError, PluginError
from covidmm.findings import OPACITY, Detections
from covidmm.inference import core
from covidmm.inference.detector import Detector
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.jobs.folder_run import (
    ENSEMBLE,
    FolderRun,
    Outcome,
    classify_studies,
    fuse_folder,
    joined,
    predict_members,
    run_folder,
)
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter, read_predictions
from covidmm.plugins import PluginManager

IMAGES = [ImageEntry(f"image{k}", "study", 50, 40) for k in range(130)]


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
    monkeypatch.setattr(core, "Detector", None)
    before = contents(again.folder)
    members = predict_members(again)
    assert list(members) == ["frcnn", "yolo"]
    assert again.fresh == []
    assert contents(again.folder) == before


def test_weights_and_thresholds_need_no_model(again, monkeypatch):
    monkeypatch.setattr(core, "Detector", None)
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


def test_a_run_stopped_anywhere_ends_with_the_same_bytes(undisturbed, tmp_path, monkeypatch, capsys):
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
    assert f"stopped: {run.config.batch_size} of {len(run.cases)} images predicted" in capsys.readouterr().err
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
    studies = classify_studies(run, classifier, fused)
    assert set(studies) == {case.study_id for case in run.cases.images}
    assert studies[run.cases.images[0].study_id] == [0.1, 0.2, 0.3, 0.4]
    assert all(len(study.radiographs) == len(study.detections) for study in classifier.asked)
    assert classifier.asked[0].radiographs[0].pixels.size
    asked = len(classifier.asked)
    assert classify_studies(run, classifier, fused) == studies
    assert len(classifier.asked) == asked
    path = run.folder / "study.json"
    content = json.loads(path.read_text())
    for values in ([1], [float("nan")] * 4, "abcd", None):
        content["studies"][run.cases.images[0].study_id] = values
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"study\.json: damaged \(not 4 probabilities"):
            classify_studies(run, classifier, fused)


def test_another_fusion_asks_again_only_who_looks_at_boxes(again):
    for uses in (True, False):
        run = replace(again, config=replace(again.config, study={"type": "mine"}))
        classifier = Uniform(uses_detections=uses)
        fused = fuse_folder(run, First(), predict_members(run))
        (run.folder / "study.json").unlink(missing_ok=True)
        classify_studies(run, classifier, replace(fused, fingerprint={"strategy": 1}))
        asked = len(classifier.asked)
        classify_studies(run, classifier, replace(fused, fingerprint={"strategy": 2}))
        assert len(classifier.asked) == asked * (2 if uses else 1)


def test_who_needs_no_pixels_gets_none(again):
    run = replace(again, config=replace(again.config, study={"type": "mine"}))
    classifier = Uniform(uses_pixels=False)
    fused = fuse_folder(run, First(), predict_members(run))
    classify_studies(run, classifier, fused)
    radiograph = classifier.asked[0].radiographs[0]
    assert radiograph.pixels.size == 0
    assert (radiograph.header.height, radiograph.header.width) == (200, 160)


def test_a_classifier_that_answers_no_probabilities_ends_the_run(again):
    run = replace(again, config=replace(again.config, study={"type": "mine"}))
    fused = fuse_folder(run, First(), predict_members(run))
    with pytest.raises(PluginError, match=f"study '{run.cases.images[0].study_id}': .*not 4 probabilities"):
        classify_studies(run, Uniform((0.5, 0.5)), fused)


def test_a_strategy_that_answers_no_boxes_ends_the_run(again):
    class Outside:
        def fuse(self, members, weights, size):
            return Detections([[0, 0, size[1] + 5, 5]], [0.5])

    with pytest.raises(PluginError, match=f"image '{again.cases.images[0].image_id}': .* answered a box outside"):
        fuse_folder(again, Outside(), predict_members(again))
    assert not (again.folder / "ensemble.json").exists()


def test_the_report_s_classifier_runs_over_the_folder(again):
    fused = fuse_folder(again, First(), predict_members(again))
    classifier = again.config.build_classifier(PluginManager([covidmm.studies], installed=False), OPACITY)
    studies = classify_studies(again, classifier, fused)
    assert all(sum(values) == pytest.approx(1, abs=1e-4) for values in studies.values())


def test_without_a_classifier_there_is_no_study_row(again):
    run = replace(again, config=replace(again.config, study=None))
    assert run.config.build_classifier(PluginManager(installed=False), OPACITY) is None
    assert classify_studies(run, None, fuse_folder(run, First(), predict_members(run))) is None


class Both:
    """All boxes of all members, with the weights as a trace in the scores."""

    def fuse(self, members, weights, size):
        assert size == (50, 40)
        scores = [one.scores * weight / 10 for one, weight in zip(members, weights, strict=True)]
        return Detections(np.concatenate([one.boxes for one in members]), np.concatenate(scores))


def write_member(folder, name, images=IMAGES, score=0.5):
    found = Detections(np.array([[1, 2, 11, 22], [2, 2, 11, 22]], np.float32), np.array([score, 0.1], np.float32))
    with PredictionsWriter(folder, name, {"checkpoint": name}) as writer:
        writer.add([(image, found) for image in images])
        return writer.finish()


def make_run(folder, **changes):
    members = {"a": Member("a.py", "a.pth", weight=1.0), "b": Member("b.py", "b.pth", weight=4.0)}
    config = EnsembleConfig(Path("e.py"), members, {"type": "both"}, None, {}, None, 512, 4)
    return FolderRun(replace(config, **changes), ImageFolder((), folder, None, None, ""), folder)


@pytest.fixture
def opacities(monkeypatch):
    """Members without configs find opacities."""
    monkeypatch.setattr(FolderRun, "classes", EnsembleClasses())


@pytest.mark.usefixtures("opacities")
def test_thresholds_suppression_and_weights_reach_the_strategy(tmp_path):
    members = {"a": write_member(tmp_path, "a"), "b": write_member(tmp_path, "b", score=1.0)}
    run = make_run(tmp_path)
    chosen = {"a": replace(run.config.members["a"], score_threshold=0.3),
              "b": replace(run.config.members["b"], nms_iou_threshold=0.5)}  # fmt: skip
    run = replace(run, config=replace(run.config, members=chosen))
    fused = fuse_folder(run, Both(), members)
    rows = list(fused)
    assert [image for image, _ in rows] == IMAGES
    assert rows[0][1].scores.tolist() == pytest.approx([0.05, 0.4])
    assert run.seconds["fusion"] > 0
    assert read_predictions(tmp_path, "ensemble").fingerprint["members"]["b"]["weight"] == 4.0


@pytest.mark.usefixtures("opacities")
def test_the_cache_key_follows_strategy_weights_and_members(tmp_path):
    members = {"a": write_member(tmp_path, "a"), "b": write_member(tmp_path, "b")}
    keys = []
    for run in (make_run(tmp_path), make_run(tmp_path, strategy={"type": "both", "x": 1})):
        keys.append(json.dumps(fuse_folder(run, Both(), members).fingerprint))
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:-2], r"b\.json: lacks 2 of the images of .*a\.json, such as 'image128'"),
        ([*IMAGES, ImageEntry("more", "s", 50, 40)], r"a\.json: lacks 1 of the images of .*b\.json, such as 'more'"),
        (IMAGES[::-1], r"b\.json: has the images of .*a\.json in another order or size"),
        ([image._replace(height=60) for image in IMAGES], "in another order or size"),
    ],
)
def test_members_of_other_images_are_refused(tmp_path, images, message):
    members = {"a": write_member(tmp_path, "a"), "b": write_member(tmp_path, "b", images)}
    with pytest.raises(DataError, match=message):
        list(joined(members))


def test_an_unknown_strategy_costs_no_prediction(random_ensemble, tmp_path):
    run = FolderRun(load_ensemble(random_ensemble.config), read_image_folder(random_ensemble.prepared), tmp_path)
    with pytest.raises(PluginError, match="unknown ensemble strategy 'wbf'; there are: none"):
        run_folder(run, PluginManager(installed=False))
    assert not list(tmp_path.iterdir())


def test_the_ensemble_stands_behind_its_members():
    assert list(Outcome(None, {"a": 1, "b": 2}, 3, None).detectors) == ["a", "b", ENSEMBLE]
