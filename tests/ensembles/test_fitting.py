import dataclasses

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from covidmm.ensembles import fitting
from covidmm.ensembles.fitting import fit
from covidmm.ensembles.learned import MemberParameters
from covidmm.ensembles.validation_images import FusionCase, mean_ap_50
from covidmm.errors import ConfigError, DataError
from covidmm.findings import Detections

NAMES = ("frcnn", "yolo")


def on(cases, parameters):
    return mean_ap_50([parameters.fuse_pool(case.pool) for case in cases], cases)


def plain_of(parameters):
    members = tuple(type(member)(member.name) for member in parameters.members)
    return dataclasses.replace(parameters, members=members, iou_thr=0.55)


def test_it_beats_plain_fusion_on_images_that_it_never_saw(fake):
    """A member whose boxes are poor, but whose scores are high: plain fusion believes it too much."""
    world = {"noise": (0.015, 0.09), "powers": (2.5, 0.3)}
    told = []
    fitted = fit(
        fake.cases(0, 60, **world), NAMES, folds=3, metadata={"sha256": "ab"}, progress=lambda *at: told.append(at)
    )
    assert fitted.cross_validation["chosen"] == "learned"
    assert [member.name for member in fitted.members] == list(NAMES)
    assert (fitted.images, fitted.fitted_on) == (60, {"sha256": "ab"})
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    unseen = fake.cases(1, 90, **world)
    assert on(unseen, fitted) > on(unseen, plain_of(fitted)) + 0.02


def test_what_does_not_help_on_images_left_out_is_not_taken(monkeypatch, fake):
    def fooled(cases, plain):
        return dataclasses.replace(plain, iou_thr=0.05)  # fuses what should stay apart

    monkeypatch.setattr(fitting, "_search", fooled)
    fitted = fit(fake.cases(0, 40), NAMES, weights=(1, 2), skip_box_thr=0.2, final_nms=0.5)
    assert fitted.cross_validation["chosen"] == "plain"
    assert fitted.cross_validation["learned_mAP_50"] < fitted.cross_validation["plain_mAP_50"]
    assert [(m.weight, m.score_threshold, m.slope, m.intercept) for m in fitted.members] == [
        (1, 0.2, 1, 0),
        (2, 0.2, 1, 0),
    ]
    assert (fitted.iou_thr, fitted.final_nms) == (0.55, 0.5)


def test_a_gain_within_the_standard_error_is_not_taken(monkeypatch, fake):
    turns = iter([(0.5, 0.9), (0.5, 0.3), (0.5, 0.4)])  # plain and fitted of each fold: better on average
    scores = iter([value for pair in turns for value in pair])
    monkeypatch.setattr(fitting, "_search", lambda cases, plain: plain)
    monkeypatch.setattr(fitting, "_score", lambda parameters, cases: next(scores))
    report = fit(fake.cases(0, 12), NAMES, folds=3).cross_validation
    assert report["learned_mAP_50"] > report["plain_mAP_50"]
    gains = [0.4, -0.2, -0.1]
    assert report["standard_error_of_difference"] == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))
    assert report["chosen"] == "plain"


def test_it_never_fits_on_what_it_scores_on_and_keeps_studies_together(monkeypatch, fake):
    cases = fake.cases(0, 30)
    seen = []
    for train, test in fitting._parts(cases, 5, seed=3):
        assert not {case.group for case in train} & {case.group for case in test}
        assert any(len(case.truths) for case in test)
        assert len(train) + len(test) == 30
        seen.extend(test)
    assert sorted(map(id, seen)) == sorted(map(id, cases))
    other = [[case.group for case in test] for _, test in fitting._parts(cases, 5, seed=4)]
    assert other != [[case.group for case in test] for _, test in fitting._parts(cases, 5, seed=3)]


def test_the_same_twice_gives_the_same(fake):
    cases = fake.cases(0, 20)
    assert fit(cases, NAMES, folds=2) == fit(cases, NAMES, folds=2)


def test_the_calibration_makes_scores_probabilities(fake):
    cases = fake.cases(0, 200, powers=(0.3, 0.5))
    fitted = fitting._calibrated(cases, tuple(map(MemberParameters, NAMES)))
    members_of_boxes = np.concatenate([case.pool.members for case in cases])
    scores = np.concatenate([case.pool.scores for case in cases])
    right = np.concatenate([fitting._hits(case) for case in cases])
    for index in (0, 1):
        own = members_of_boxes == index

        def error(given, right=right[own]):
            share, mean = calibration_curve(right, given, n_bins=5, strategy="quantile")
            return np.abs(share - mean).mean()

        assert error(fitted[index].calibrated(scores[own])) < min(0.06, 0.5 * error(scores[own]))


@pytest.mark.parametrize("kind", ["nothing", "all wrong", "upside down"])
def test_a_member_that_cannot_be_calibrated_keeps_its_scores(kind, fake):
    truth = [[10, 10, 50, 50]]
    right, wrong = [10, 10, 50, 50], [60, 60, 90, 90]
    odd = {
        "nothing": Detections(np.zeros((0, 4)), []),
        "all wrong": Detections([wrong], [0.9]),
        "upside down": Detections([right, wrong], [0.1, 0.9]),
    }[kind]
    cases = [FusionCase([Detections([right, wrong], [0.8, 0.3]), odd], (100, 100), truth, str(k)) for k in range(10)]
    start = tuple(map(MemberParameters, NAMES))
    good, other = fitting._calibrated(cases, start)
    assert good.slope > 0
    assert good != start[0]
    assert other == start[1]
    assert fit(cases, NAMES, folds=2).images == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": ("a",)}, ConfigError, "1 names for 2 members"),
        ({"weights": (1, 0)}, ConfigError, "weights must be 2 positive numbers"),
        ({"iou_thr": 3}, ConfigError, "plain fusion: iou_thr"),
        ({"folds": 1}, ConfigError, "folds must be 2 or more, not 1"),
        ({"folds": 50}, DataError, "6 studies with a true box cannot be divided into 50 folds"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(options, error, message, fake):
    with pytest.raises(error, match=message):
        fit(fake.cases(0, 12), **{"names": NAMES, **options})
