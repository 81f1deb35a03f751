import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covidmm.ensembles
from covidmm.ensembles.learned import (
    LearnedFusion,
    LearnedParameters,
    MemberParameters,
    logit,
    read_learned,
    write_learned,
)
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError
from covidmm.findings import Detections
from covidmm.plugins import PluginManager

NAMES = ("frcnn", "yolo")
FITTED = LearnedParameters(
    (MemberParameters("frcnn"), MemberParameters("yolo", 2.0, 0.1, 1.5, -0.5)),
    iou_thr=0.6,
    final_nms=0.4,
    images=94,
    cross_validation={"folds": 5, "chosen": "learned"},
    fitted_on={"frcnn": {"checkpoint_sha256": "ab12"}},
)


def test_the_file_is_for_people_and_comes_back_the_same(tmp_path):
    path = tmp_path / "fusion.json"
    write_learned(path, {"opacity": FITTED})
    content = json.loads(path.read_text())
    assert (content["format"], content["version"]) == ("covidmm learned fusion", 2)
    assert content["classes"]["opacity"]["images"] == 94
    assert [member["name"] for member in content["classes"]["opacity"]["members"]] == ["frcnn", "yolo"]
    assert path.read_text().count("\n") > 20
    assert read_learned(path) == {"opacity": FITTED}
    assert [p.name for p in tmp_path.iterdir()] == ["fusion.json"]


def test_the_strategy_calibrates_drops_weighs_and_fuses(tmp_path, fake):
    path = tmp_path / "fusion.json"
    write_learned(path, {"opacity": FITTED})
    strategy = PluginManager([covidmm.ensembles], installed=False).build_strategy(
        {"type": "learned", "parameters": str(path)}
    )
    first, second = fake.members(np.random.default_rng(0), (20, 30))
    found = strategy.fuse([first, second], [1, 1], fake.size)
    odds = second.scores.astype(np.float64) / (1 - second.scores.astype(np.float64))
    calibrated = 1 / (1 + odds**-1.5 * np.exp(0.5))
    kept = calibrated >= 0.1
    assert 0 < kept.sum() < 30
    by_hand = Detections(second.boxes[kept], calibrated[kept])
    expected = WeightedBoxesFusion(0.6, final_nms=0.4).fuse([first, by_hand], [1, 2], fake.size)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_parameters_that_change_nothing_are_plain_fusion(tmp_path, fake):
    names = ("a", "b", "c")
    plain = LearnedParameters(tuple(map(MemberParameters, names)), 0.55, None, 1)
    write_learned(tmp_path / "plain.json", {"opacity": plain})
    members = fake.members(np.random.default_rng(0), (20, 0, 30))
    found = LearnedFusion(str(tmp_path / "plain.json")).fuse(members, [1, 1, 1], fake.size)
    expected = WeightedBoxesFusion().fuse(members, [1, 1, 1], fake.size)
    assert (found.boxes == expected.boxes).all()
    assert (found.scores == expected.scores).all()


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1),
    slope=st.floats(0.01, 20),
    intercept=st.floats(-10, 10),
)
def test_a_higher_score_never_gets_a_lower_probability(scores, slope, intercept):
    found = MemberParameters("m", slope=slope, intercept=intercept).calibrated(np.sort(np.array(scores, np.float64)))
    assert (np.diff(found) >= 0).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_logit_is_finite_at_the_edges():
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert logit(np.array([0.5])) == pytest.approx(0)


def damaged(version=2, **changes):
    content = {"classes": {"opacity": dataclasses.asdict(FITTED) | changes}}
    return json.dumps({"format": "covidmm learned fusion", "version": version, **content})


def test_a_file_of_the_first_version_is_of_opacities(tmp_path):
    old = {"format": "covidmm learned fusion", "version": 1, **dataclasses.asdict(FITTED)}
    (tmp_path / "fusion.json").write_text(json.dumps(old))
    assert read_learned(tmp_path / "fusion.json") == {"opacity": FITTED}


def test_each_class_is_fused_by_what_was_fitted_for_it(tmp_path, fake):
    other = LearnedParameters((MemberParameters("frcnn", 3.0), MemberParameters("yolo")), 0.4, None, 20)
    write_learned(tmp_path / "fusion.json", {"opacity": FITTED, "nodule": other})
    strategy = LearnedFusion(str(tmp_path / "fusion.json"))
    members = fake.members(np.random.default_rng(3), (40, 50), labels=2)
    found = strategy.fuse(members, [1, 1], fake.size)
    assert (np.diff(found.scores) <= 0).all()
    for label, one in enumerate((FITTED, other)):
        write_learned(tmp_path / "one.json", {"alone": one})
        own = [m.of([label]) for m in members]
        zeros = [Detections(m.boxes, m.scores) for m in own]
        expected = LearnedFusion(str(tmp_path / "one.json")).fuse(zeros, [1, 1], fake.size)
        np.testing.assert_allclose(found.of([label]).boxes, expected.boxes, atol=1e-4)
        np.testing.assert_allclose(found.of([label]).scores, expected.scores, atol=1e-6)


@pytest.mark.parametrize(
    ("voters", "message"),
    [
        ({"nodule": NAMES}, "fitted for the classes opacity, in this order; the ensemble finds nodule"),
        ({"opacity": ("yolo", "frcnn")}, "fitted for the members frcnn, yolo, in this order; the config has yolo"),
        ({"opacity": ("frcnn",)}, "the config has frcnn; fit it again with --sweep"),
    ],
)
def test_other_classes_and_members_are_refused_before_anything_is_predicted(voters, message, tmp_path):
    write_learned(tmp_path / "fusion.json", {"opacity": FITTED})
    strategy = LearnedFusion(str(tmp_path / "fusion.json"))
    strategy.require_voters({"opacity": NAMES})
    with pytest.raises(ConfigError, match=message):
        strategy.require_voters(voters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged, no JSON"),
        (damaged()[:80], "damaged, no JSON"),
        (b"\xff\xfe\x00", "damaged, no JSON"),
        ('{"format": "covidmm learned fusion", "version": 2, "classes": {}}', "damaged: it has no class"),
        ('{"format": "covidmm learned fusion", "version": 2, "classes": [1]}', "damaged"),
        ("[]", "its format is not 'covidmm learned fusion'"),
        ("{}", "its format is not"),
        (damaged(version=3), "version 3 of the format, this covidmm reads 1 and 2"),
        (damaged(members=[]), "damaged: it has no member"),
        (damaged(members=[{"name": "a", "weight": -1}]), "damaged: member 'a': weight and slope must be positive"),
        (damaged(members=[{"name": "a", "weight": "heavy"}]), "damaged"),
        (damaged(members=[{"name": "a", "weight": float("nan")}]), "damaged: member 'a'"),
        (damaged(members=[{"name": "a", "score_threshold": 3}]), "damaged: score_threshold"),
        (damaged(members=[{"name": "a", "colour": 3}]), "damaged.*colour"),
        (damaged(members=3), "damaged"),
        (damaged(iou_thr=7), "damaged: iou_thr"),
        (damaged(final_nms="x"), "damaged: final_nms"),
        (damaged(extra=1), "damaged.*extra"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_name(text, message, tmp_path):
    path = tmp_path / "fusion.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as error:
        LearnedFusion(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.json: no parameters of a learned fusion: No such file"):
        LearnedFusion(str(tmp_path / "absent.json"))


def test_another_number_of_members_is_named(tmp_path, fake):
    write_learned(tmp_path / "fusion.json", {"opacity": FITTED})
    strategy = LearnedFusion(str(tmp_path / "fusion.json"))
    members = fake.members(np.random.default_rng(0), (1, 1, 1))
    with pytest.raises(ConfigError, match=r"fusion.json: fitted for 2 members \(frcnn, yolo\), not for 3"):
        strategy.fuse(members, [1, 1, 1], fake.size)
