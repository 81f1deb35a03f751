from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.ensembles.gate import Gate
from covidmm.errors import ConfigError
from covidmm.findings import Detections

SIIM = SimpleNamespace()
SHARE = st.floats(0, 1)
LIMITS = st.tuples(SHARE, SHARE).map(sorted)


def several(*names):
    return SimpleNamespace(classes=names, multi_label=True)


@given(st.lists(SHARE, max_size=6), SHARE, LIMITS, st.floats(0, 5))
def test_scores_are_those_of_the_rule_written_out(scores, anything, limits, power):
    found = Detections(np.tile([0.0, 0, 5, 5], (len(scores), 1)), scores, np.arange(len(scores)))
    low, high = limits
    passed = Gate(negative="negative", power=power, low=low, high=high)(found, anything)
    wanted = np.array(scores, np.float32)
    if anything < low:
        wanted = wanted[:0]
    elif anything < high:
        wanted = wanted * anything**power
    np.testing.assert_allclose(passed.scores, wanted, atol=1e-6)
    assert (passed.boxes == found.boxes[: len(wanted)]).all()
    assert (passed.labels == found.labels[: len(wanted)]).all()


@given(SHARE, SHARE, LIMITS, st.floats(0, 5))
def test_who_is_surer_that_there_is_something_keeps_higher_scores(one, other, limits, power):
    gate = Gate(negative="negative", power=power, low=limits[0], high=limits[1])
    low, high = sorted((one, other))
    assert 0 <= gate.factor(low) <= gate.factor(high) <= 1


def test_what_vinbigdata_s_winners_did():
    """Two limits: no boxes where there is surely nothing, all of them as they are elsewhere."""
    gate, found = Gate(low=0.08, high=0.95, power=0), Detections([[0, 0, 5, 5]], [0.6])
    assert [gate(found, p).scores.tolist() for p in (0.05, 0.08, 0.5, 0.97)] == [[], *[[np.float32(0.6)]] * 3]


def test_the_probability_that_there_is_anything():
    gate = Gate(negative="negative")
    assert gate.anything(SIIM, [0.7, 0.1, 0.1, 0.1]) == pytest.approx(0.3)
    assert Gate(negative="no finding").anything(several("mass", "no finding"), [0.9, 0.25]) == pytest.approx(0.75)
    assert Gate().anything(several("mass", "effusion"), [0.2, 0.6]) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("gate", "classifier", "cause"),
    [
        ({}, None, "needs a classifier: the config's study"),
        ({}, SIIM, "negative must name the class .*: negative, typical, indeterminate, atypical"),
        ({"negative": "negativ"}, SIIM, "classes are negative, .*did you mean 'negative'"),
        ({"negative": "none"}, several("mass", "effusion"), "classes are mass, effusion"),
    ],
)
def test_a_classifier_that_cannot_say_it(gate, classifier, cause):
    with pytest.raises(ConfigError, match=cause):
        Gate(**gate).require_classifier(classifier)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("gate = dict(pwer=1)", "unknown key 'pwer' in gate.*did you mean 'power'"),
        ("gate = dict(power=-1)", "power must not be negative"),
        ("gate = dict(power='high')", "power must be a number"),
        ("gate = dict(low=0.9, high=0.1)", "low and high must lie in 0..1 in this order"),
        ("gate = dict(level='series')", "it can be study or image"),
        ("gate = dict(classifier='resnext')", "classifier must be a dict with a type"),
        ("gate = 0.5", "gate must be a dict"),
    ],
)
def test_a_bad_line_in_the_config_is_named(random_ensemble, tmp_path, line, cause):
    path = tmp_path / "gated.py"
    path.write_text(f"_base_ = '{random_ensemble.config}'\n{line}\n")
    with pytest.raises(ConfigError, match=cause) as caught:
        load_ensemble(path)
    assert str(path) in str(caught.value)


def test_a_config_without_a_gate_has_the_hash_that_it_had(random_ensemble, tmp_path):
    plain = load_ensemble(random_ensemble.config)
    path = tmp_path / "gated.py"
    path.write_text(f"_base_ = '{random_ensemble.config}'\ngate = dict(negative='negative', power=2)\n")
    gated = load_ensemble(path)
    assert gated.gate == Gate(negative="negative", power=2)
    assert replace(gated, gate=None).sha256 == plain.sha256 != gated.sha256
    assert load_ensemble(path, ["gate.power=3"]).gate.power == 3
