"""What holds for every built-in strategy, and that no trap of ensemble_boxes is left open."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import covidmm.ensembles
from covidmm.ensembles.pooled_boxes import pooled, require_unit, require_weights
from covidmm.errors import ConfigError, DataError, PluginError
from covidmm.findings import Detections
from covidmm.plugins import PluginManager

MANAGER = PluginManager([covidmm.ensembles], installed=False)
CONFIGS = [
    {"type": "wbf"},
    {"type": "wbf", "final_nms": 0.3},
    *({"type": "wbf", "conf_type": name} for name in ("max", "box_and_model_avg", "absent_model_aware_avg")),
    {"type": "nms"},
    {"type": "soft_nms"},
    {"type": "soft_nms", "method": "linear"},
    {"type": "nmw"},
    {"type": "best_single"},
]
STRATEGIES = [MANAGER.build_strategy(config) for config in CONFIGS]
NAMES = [" ".join(map(str, config.values())) for config in CONFIGS]
FUSING = [(s, n) for s, n in zip(STRATEGIES, NAMES, strict=True) if n != "best_single"]
every = pytest.mark.parametrize("strategy", STRATEGIES, ids=NAMES)
fusing = pytest.mark.parametrize("strategy", [s for s, _ in FUSING], ids=[n for _, n in FUSING])
few = settings(max_examples=25, deadline=None)


def rows(found):
    """What was found, in an order of its own: that of equal scores is free."""
    return sorted(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True))


@pytest.fixture(autouse=True)
def _silent(capfd):
    """ensemble_boxes prints and warns where its input is not as it wants it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_hook_answers_with_every_built_in_name():
    assert set(MANAGER.strategies) == {"wbf", "nms", "soft_nms", "nmw", "best_single", "learned"}


@every
@pytest.mark.parametrize("count", [1, 2, 3])
def test_empty_in_empty_out(strategy, count):
    found = strategy.fuse([Detections(np.zeros((0, 4)), [])] * count, [1] * count, (480, 640))
    assert (len(found), found.boxes.shape, found.boxes.dtype) == (0, (0, 4), np.float32)


@every
@few
@given(data=st.data())
def test_boxes_stay_in_the_hull_of_their_class_and_scores_in_range(strategy, data, fake):
    members = data.draw(fake.member_lists())
    weights = data.draw(st.lists(st.sampled_from([0.1, 1, 2, 7.5]), min_size=len(members), max_size=len(members)))
    found = strategy.fuse(members, weights, fake.size)
    assert (np.diff(found.scores) <= 0).all()
    for label in np.unique(found.labels):
        sources = np.concatenate([m.boxes[m.labels == label] for m in members])
        boxes = found.boxes[found.labels == label]
        assert (boxes[:, :2] >= sources[:, :2].min(0) - 1e-3).all()
        assert (boxes[:, 2:] <= sources[:, 2:].max(0) + 1e-3).all()
    assert found.scores.max(initial=0) <= max(m.scores.max(initial=0) for m in members) + 1e-6


@fusing
@few
@given(data=st.data())
def test_the_order_of_members_with_equal_weights_does_not_matter(strategy, data, fake):
    members = data.draw(fake.member_lists(least=2))
    other = data.draw(st.permutations(members))
    weights = [1.5] * len(members)
    assert rows(strategy.fuse(members, weights, fake.size)) == rows(strategy.fuse(other, weights, fake.size))


# a power of two changes no rounding, which would decide about boxes that overlap by the threshold itself
@fusing
@few
@given(data=st.data(), factor=st.sampled_from([2.0**-7, 4.0, 2.0**20]))
def test_only_the_ratios_of_weights_count(strategy, data, factor, fake):
    members = data.draw(fake.member_lists())
    weights = np.arange(1, len(members) + 1, dtype=float)
    one, two = (strategy.fuse(members, w, fake.size) for w in (weights, weights * factor))
    assert rows(one) == rows(two)


@fusing
@pytest.mark.parametrize("factor", [0.01, 3.0, 1e6])
def test_only_the_ratios_of_weights_count_but_for_rounding(strategy, factor, fake):
    members = fake.members(np.random.default_rng(0), (20, 30, 40), labels=2)
    weights = np.arange(1, 4, dtype=float)
    one, two = (strategy.fuse(members, w, fake.size) for w in (weights, weights * factor))
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
    np.testing.assert_allclose(one.boxes, two.boxes, rtol=1e-5)


@every
def test_the_members_are_left_as_they_were(strategy, fake):
    members = fake.members(np.random.default_rng(0), (20, 30), labels=2)
    before = [(m.boxes.copy(), m.scores.copy()) for m in members]
    strategy.fuse(members, [2, 1], fake.size)
    for member, (boxes, scores) in zip(members, before, strict=True):
        assert (member.boxes == boxes).all()
        assert (member.scores == scores).all()


@every
@pytest.mark.parametrize(
    "weights",
    [[1], [1, 1, 1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [[1, 1]], ["a", "b"], None, 1.0, []],
    ids=str,
)
def test_weights_that_ensemble_boxes_would_reset_are_refused(strategy, weights, fake):
    members = fake.members(np.random.default_rng(0), (3, 3))
    with pytest.raises(ConfigError, match="weights must be 2 positive numbers, one per member") as error:
        strategy.fuse(members, weights, fake.size)
    assert "\n" not in str(error.value)


@every
def test_no_members_is_an_error(strategy):
    with pytest.raises(ConfigError, match="needs members"):
        strategy.fuse([], [], (4, 4))


@every
@pytest.mark.parametrize("size", [(0, 4), (4, -1), (float("nan"), 3), (1, 2, 3), None, ("a", 2)], ids=str)
def test_a_size_that_is_none_is_named(strategy, size):
    with pytest.raises(DataError, match="height and width"):
        strategy.fuse([Detections([[0, 0, 1, 1]], [0.5])], [1], size)


@every
def test_an_inverted_box_is_named_not_swapped(strategy):
    members = [Detections([[0, 0, 1, 1]], [0.5]), Detections([[0, 0, 1, 1], [3, 1, 2, 2]], [0.5, 0.4])]
    with pytest.raises(DataError, match=r"member 1: box 1 has x2 < x1 or y2 < y1: \[3.0, 1.0, 2.0, 2.0\]"):
        strategy.fuse(members, [1, 1], (4, 4))


@every
def test_boxes_are_clipped_and_those_without_an_area_go_with_their_scores(strategy):
    outside = Detections(
        [[-5, -5, 10, 10], [5, 5, 5, 9], [-9, 0, -1, 5], [25, 0, 30, 5], [12, 12, 40, 40]], [0.9, 0.8, 0.7, 0.6, 0.5]
    )
    found = strategy.fuse([outside], [1], (30, 20))
    np.testing.assert_allclose(found.boxes, [[0, 0, 10, 10], [12, 12, 20, 30]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.5])


@every
def test_width_and_height_are_not_swapped(strategy):
    found = strategy.fuse([Detections([[90, 5, 99, 9]], [0.5])], [1], (10, 100))
    np.testing.assert_allclose(found.boxes, [[90, 5, 99, 9]], rtol=1e-6)


@every
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e-30])
def test_scores_of_nothing_leave_no_broken_box(strategy, value):
    """ensemble_boxes divides by their sum, in float32."""
    member = Detections([[10, 10, 20, 20], [10, 10, 20, 21]], [value, value])
    found = strategy.fuse([member, member], [1, 1], (30, 30))
    assert (found.boxes >= 9.99).all()
    assert (found.boxes <= 21.01).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_the_kind_of_numbers_does_not_matter(dtype):
    member = Detections(np.array([[1, 2, 3, 4]], dtype), np.array([1], dtype))
    pool = pooled([member], (4, 4))
    assert (pool.boxes.dtype, pool.scores.dtype, pool.labels.dtype) == (np.float64, np.float64, np.int64)
    assert pool.boxes.tolist() == [[0.25, 0.5, 0.75, 1.0]]


def test_coordinates_come_back_from_large_images_as_they_were():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 4000, (500, 2))
    boxes = np.hstack([low, low + rng.uniform(1, 800, (500, 2))]).astype(np.float32)
    pool = pooled([Detections(boxes, np.linspace(0, 1, 500))], (4891, 4891))
    back = pool.best_first().detections((4891, 4891))
    assert (back.boxes[::-1] == boxes).all()


def test_the_pool_says_who_found_what():
    members = [Detections([[1, 1, 2, 2]], [0.5]), Detections([[0, 0, 2, 2], [0, 0, 0, 0]], [0.4, 0.3], [1, 1])]
    pool = pooled(members, (2, 2))
    assert (pool.members.tolist(), pool.labels.tolist()) == ([1, 0], [1, 0])
    np.testing.assert_allclose(pool.scores, [0.4, 0.5])


def test_weights_become_float64():
    assert require_weights((1, 2), 2).dtype == np.float64


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5)])
def test_a_share_is_accepted(value):
    assert require_unit("iou_thr", value) == value


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"type": "wbf", "iou_thr": 1.5}, "iou_thr"),
        ({"type": "wbf", "iou_thr": "0.5"}, "iou_thr"),
        ({"type": "wbf", "skip_box_thr": -0.1}, "skip_box_thr"),
        ({"type": "wbf", "final_nms": float("nan")}, "final_nms"),
        ({"type": "wbf", "final_nms": True}, "final_nms"),
        ({"type": "wbf", "conf_type": "average"}, "conf_type must be one of avg, max"),
        ({"type": "nms", "iou_thr": None}, "iou_thr"),
        ({"type": "soft_nms", "sigma": 0}, "sigma"),
        ({"type": "soft_nms", "sigma": "wide"}, "sigma"),
        ({"type": "soft_nms", "threshold": 2}, "threshold"),
        ({"type": "soft_nms", "iou_thr": -1}, "iou_thr"),
        ({"type": "soft_nms", "method": "hard"}, "method must be one of linear, gaussian, not 'hard'"),
        ({"type": "nmw", "iou_thr": 2}, "iou_thr"),
        ({"type": "nmw", "skip_box_thr": 2}, "skip_box_thr"),
        ({"type": "best_single", "member": -1}, "member"),
        ({"type": "best_single", "member": "yolo"}, "member"),
        ({"type": "wbf", "iou": 0.5}, r"has no argument 'iou': did you mean 'iou_thr'\?"),
    ],
)
def test_an_argument_out_of_range_is_named_when_the_strategy_is_built(config, name):
    with pytest.raises(PluginError, match=f"'{config['type']}'.*{name}"):
        MANAGER.build_strategy(config)
