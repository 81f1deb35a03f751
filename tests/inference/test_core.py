"""The steps in this process and pickled for others, and which results of plugins are refused."""

import pickle

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError, DataError, PluginError
from covidmm.findings import Detections, Study
from covidmm.inference.core import Batch, Classifying, Detecting, StudyJob, classify, fuse, plugins, timed
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.outputs.predictions import ImageEntry

IMAGE = ImageEntry("one", "study", 50, 40)
BOX = np.array([[1, 2, 11, 22]], np.float32)


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
    work = pickle.loads(pickle.dumps(Classifying(config.study, 128)))
    entries = Detecting({}, 128)(Batch(cases, [])).entries
    job = StudyJob("a", cases, [(entry, Detections.none()) for entry in entries])
    assert work(job).values.sum() == pytest.approx(1, abs=1e-5)
    assert work(StudyJob("b", [], [])).values is None


def test_an_unknown_classifier_is_told():
    with pytest.raises(PluginError, match="nothing"):
        plugins().build_study_classifier({"type": "nothing"})


def test_seconds_add_up_even_through_errors():
    seconds = {}
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), timed(seconds, "step"):
            raise ZeroDivisionError
    assert seconds["step"] > 0


class Answering:
    """A plugin of both kinds that answers, or raises, what it was given."""

    def __init__(self, answer):
        self.answer = answer

    def fuse(self, members, weights, size):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def classify(self, study):
        return self.fuse((), (), ())


def refusal(ask, *arguments):
    with pytest.raises(PluginError) as caught:
        ask(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "image 'one': the ensemble strategy answered a NoneType, not Detections"),
        (BOX, "answered a ndarray, not Detections"),
        (Detections(BOX + 40, [0.5]), "a box outside 40 x 50 pixels: [41.0, 42.0, 51.0, 62.0], label 0"),
        (Detections(BOX - [[3, 0, 0, 0]], [0.5]), "a box outside"),
        (Detections(BOX[:, [2, 1, 0, 3]], [0.5]), "a box with x2 < x1 or y2 < y1: [11.0, 2.0, 1.0, 22.0]"),
        (Detections(BOX, [0.5], [1]), "a box of no class in 0..0: [1.0, 2.0, 11.0, 22.0], label 1"),
        (Detections(BOX, [0.5], [-1]), "a box of no class"),
        (ZeroDivisionError("by\nnothing"), "image 'one': Answering failed: ZeroDivisionError: by nothing"),
        (ValueError("boxes and scores must be finite"), "ValueError: boxes and scores must be finite"),
        (PluginError("broken"), "image 'one': broken"),
    ],
)
def test_what_is_no_set_of_boxes_is_refused(answer, message):
    assert message in refusal(fuse, Answering(answer), {}, IMAGE, {}, EnsembleClasses())


def test_a_box_may_reach_over_the_edge_as_far_as_in_a_file():
    found = Detections([[-0.9, 0, 40.9, 50.9]], [0.5])
    assert fuse(Answering(found), {}, IMAGE, {}, EnsembleClasses()) is found


@pytest.mark.parametrize("error", [DataError("member 0: a box"), ConfigError("weights must be")])
def test_what_a_strategy_says_on_purpose_stays(error):
    with pytest.raises(type(error), match=str(error)):
        fuse(Answering(error), {}, IMAGE, {}, EnsembleClasses())


@pytest.mark.parametrize(
    "values", [(0.5, 0.5), (0.9, 0.9, 0, 0), (-0.1, 0.5, 0.3, 0.3), (float("nan"), 0, 0, 1), None, np.zeros((4, 4))]
)
def test_what_is_no_probability_is_refused(values):
    said = refusal(classify, Answering(values), Study("a", [], []))
    assert said.startswith("study 'a': the study classifier answered ")
    assert said.endswith(", not 4 probabilities that add up to 1, of negative, typical, indeterminate, atypical")


@pytest.mark.parametrize("answer", ["abcd", RuntimeError("out of\nmemory"), [[1], [2, 3]]])
def test_a_classifier_that_fails_is_one_line(answer):
    assert refusal(classify, Answering(answer), Study("a", [], [])).startswith("study 'a': Answering failed: ")
