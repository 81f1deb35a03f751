import numpy as np
import pytest

import covidmm.studies
from covidmm.errors import ConfigError, PluginError
from covidmm.findings import Study, StudyLabels
from covidmm.plugins import PluginManager
from covidmm.studies.from_detections import RulesOnDetections

MEMBERS = [{"type": "from_detections", "prior_negative": 0.8}, {"type": "from_detections", "prior_negative": 0.4}]
EMPTY = Study("s", [], [])


def build(**options):
    return PluginManager([covidmm.studies], installed=False).build_study_classifier({"type": "ensemble", **options})


def test_the_mean_and_the_weighted_mean():
    answers = [RulesOnDetections(prior_negative=p).classify(EMPTY) for p in (0.8, 0.4)]
    assert build(members=MEMBERS).classify(EMPTY) == pytest.approx(np.mean(answers, axis=0))
    weighted = build(members=MEMBERS, weights=[3, 1]).classify(EMPTY)
    assert weighted == pytest.approx(0.75 * answers[0] + 0.25 * answers[1])


def test_an_unknown_member_is_named_with_what_exists():
    with pytest.raises(PluginError, match="'from_detection': did you mean 'from_detections'"):
        build(members=[{"type": "from_detection"}])


@pytest.mark.parametrize(
    "wrong", [{"members": []}, {"members": MEMBERS, "weights": [1]}, {"members": MEMBERS, "weights": [1, 0]}]
)
def test_members_and_weights_that_do_not_fit_are_refused(wrong):
    with pytest.raises((ConfigError, PluginError), match="members"):
        build(**wrong)


def test_members_of_several_labels_and_what_the_ensemble_finds_reaches_them():
    members = [{"type": "any_detection"}, {"type": "any_detection", "classes": ("mass", "nodule")}]
    manager = PluginManager([covidmm.studies], installed=False)
    built = manager.build_study_classifier({"type": "ensemble", "members": members}, ("mass", "nodule"))
    assert StudyLabels.of(built) == StudyLabels(("mass", "nodule"), multi_label=True, negative=None)
    with pytest.raises(ConfigError, match="the members classify differently, a mean needs the same: of mass, nodule, "):
        manager.build_study_classifier({"type": "ensemble", "members": members}, ("mass", "nodule", "hernia"))
    mixed = [{"type": "any_detection"}, {"type": "from_detections", "finding": "mass"}]
    with pytest.raises(ConfigError, match="of mass and of negative, typical"):
        manager.build_study_classifier({"type": "ensemble", "members": mixed}, ("mass",))
