"""A gate over a whole folder, compared with the rule applied to the files, and with the predictor."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.ensembles.gate import Gate
from covidmm.errors import ConfigError
from covidmm.inference import Predictor, core
from covidmm.inference.core import plugins
from covidmm.jobs.folder_run import FolderRun, run_folder
from covidmm.outputs.predictions import read_predictions

RULES = {"type": "from_detections"}


@pytest.fixture(scope="module")
def ensemble(random_ensemble):
    return load_ensemble(random_ensemble.config)


@pytest.fixture(scope="module")
def plain(ensemble, random_ensemble, tmp_path_factory):
    """A folder, raw, predicted without a gate."""
    run = FolderRun(ensemble, read_image_folder(random_ensemble.raw), tmp_path_factory.mktemp("plain"))
    return run_folder(run, plugins())


@pytest.fixture
def gated(plain, tmp_path):
    """Runs the folder with a gate, beside a copy of what the run without one left."""
    shutil.copytree(plain.run.folder, tmp_path / "copy")

    def run(gate):
        config = replace(plain.run.config, gate=gate)
        return run_folder(replace(plain.run, config=config, folder=tmp_path / "copy", fresh=[]), plugins())

    return run


def by_hand(plain, probabilities, power=1.0, low=0.0, by="study_id"):
    wanted = {}
    for image, found in plain.fused:
        p = probabilities[getattr(image, by)]
        wanted[image.image_id] = found.scores * p**power if p >= low else found.scores[:0]
    return wanted


def require_scores(outcome, wanted):
    for image, found in outcome.fused:
        np.testing.assert_allclose(found.scores, wanted[image.image_id], atol=2e-6)


def test_the_ensemble_s_own_classifier_scales_the_boxes(plain, gated):
    outcome = gated(Gate(negative="negative", power=2))
    assert outcome.run.fresh == []  # nothing is asked twice
    require_scores(outcome, by_hand(plain, {key: 1 - values[0] for key, values in plain.studies.items()}, power=2))
    assert outcome.studies == plain.studies
    assert outcome.fused.fingerprint["gate"]["power"] == 2
    assert outcome.fused.fingerprint["gate"]["classifier"]["checkpoint_sha256"]
    assert outcome.origin()["gate"] == outcome.fused.fingerprint["gate"]
    assert "gate" not in plain.origin()
    assert "gate" not in plain.fused.fingerprint
    assert outcome.run.cache_keys()["ensemble"] == outcome.fused.fingerprint


def test_a_low_limit_leaves_studies_without_boxes(plain, gated):
    anything = {key: 1 - values[0] for key, values in plain.studies.items()}
    limit = float(np.median(list(anything.values())))
    outcome = gated(Gate(negative="negative", low=limit, high=limit))
    for image, found in outcome.fused:
        assert (len(found) > 0) == (anything[image.study_id] >= limit)


@pytest.mark.parametrize("level", ["study", "image"])
def test_a_classifier_of_its_own_by_study_or_image_as_the_predictor_does(plain, gated, random_ensemble, level):
    gate = Gate(classifier=RULES, negative="negative", level=level)
    outcome = gated(gate)
    assert outcome.run.fresh == ["gate"]
    assert gated(gate).run.fresh == []
    content = json.loads((outcome.run.folder / "gate" / "study.json").read_text())["studies"]
    by = "image_id" if level == "image" else "study_id"
    assert content.keys() == {getattr(image, by) for image in outcome.fused.images}
    require_scores(outcome, by_hand(plain, {key: 1 - values[0] for key, values in content.items()}, by=by))
    # what is in front of the gate is kept apart from the detectors of the folder
    assert read_predictions(outcome.run.folder / "gate", "fusion").fingerprint == plain.fused.fingerprint
    predictor = Predictor(outcome.run.config, device="cpu")
    found = {own.image_id: own.fused for study in predictor(random_ensemble.raw) for own in study.images}
    for image, boxes in outcome.fused:
        np.testing.assert_allclose(found[image.image_id].scores, boxes.scores, atol=2e-6)
        np.testing.assert_allclose(found[image.image_id].boxes, boxes.boxes, atol=0.01)
    alone = predictor.variant("yolo")
    assert alone.config.gate is None
    assert predictor.variant(strategy={"type": "nms"}).config.gate == gate


def test_a_gate_that_cannot_be_asked_ends_the_run_before_anything_is_predicted(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(core, "Detector", None)
    for gate, study, cause in (
        (Gate(), plain.run.config.study, "gate: negative must name"),
        (Gate(negative="negative"), None, "gate: needs a classifier"),
    ):
        config = replace(plain.run.config, gate=gate, study=study)
        with pytest.raises(ConfigError, match=cause):
            run_folder(replace(plain.run, config=config, folder=tmp_path), plugins())
    assert not list(tmp_path.iterdir())
