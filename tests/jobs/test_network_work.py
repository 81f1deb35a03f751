"""The parts of a folder run that travel to other processes; ``test_prediction.py`` runs them in this one."""

import pickle

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import PluginError
from covidmm.findings import Detections
from covidmm.jobs.network_work import Batch, Classifying, Detecting, StudyJob, build_classifier, timed


@pytest.fixture(scope="module")
def cases(random_ensemble):
    return read_image_folder(random_ensemble.prepared).images[:2]


def test_what_was_pickled_finds_the_same(random_ensemble, cases):
    config = load_ensemble(random_ensemble.config)
    work = Detecting({"yolo": config.members["yolo"]}, 128)
    batch = Batch(cases, ["yolo"])
    first = work(batch)
    travelled = pickle.dumps(work)
    assert len(travelled) < 2000  # no network in it
    again = pickle.loads(travelled)(pickle.loads(pickle.dumps(batch)))
    assert again.entries == first.entries
    for one, other in zip(first.found["yolo"], again.found["yolo"], strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert {"load", "decode", "yolo"} == set(first.seconds)
    assert "load" not in work(batch).seconds


def test_only_the_asked_members_are_asked(random_ensemble, cases):
    work = Detecting(load_ensemble(random_ensemble.config).members, 128)
    assert list(work(Batch(cases, ["frcnn"])).found) == ["frcnn"]


def test_a_classifier_is_built_where_it_is_asked(random_ensemble, cases):
    config = load_ensemble(random_ensemble.config)
    work = pickle.loads(pickle.dumps(Classifying(config.study, 128, None)))
    entries = Detecting({}, 128)(Batch(cases, [])).entries
    job = StudyJob("a", cases, [(entry, Detections.none()) for entry in entries])
    assert sum(work(job).values) == pytest.approx(1, abs=1e-5)
    assert work(StudyJob("b", [], [])).values is None


def test_an_unknown_classifier_is_told():
    with pytest.raises(PluginError, match="nothing"):
        build_classifier({"type": "nothing"})


def test_seconds_add_up_even_through_errors():
    seconds = {}
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), timed(seconds, "step"):
            raise ZeroDivisionError
    assert seconds["step"] > 0
