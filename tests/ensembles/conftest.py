"""Detections for the strategies, at random and by hypothesis."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from covidmm.ensembles.validation_images import FusionCase
from covidmm.findings import Detections

SIZE = (480, 640)  # height, width: not square, or a swap would go unseen
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])


def random_members(rng, counts, labels=1, size=SIZE):
    """Members with boxes in the image, half of them around two places, and no score twice."""
    height, width = size
    total = sum(counts)
    places = np.array([[0.1, 0.2, 0.4, 0.7], [0.55, 0.25, 0.9, 0.8]])
    near = places[rng.integers(0, 2, total)] + rng.normal(0, 0.03, (total, 4))
    low = rng.uniform(0, 0.7, (total, 2))
    away = np.hstack([low, low + rng.uniform(0.05, 0.3, (total, 2))])
    boxes = np.where(rng.random((total, 1)) < 0.5, near, away).clip(0, 1) * [width, height, width, height]
    scores, classes = rng.permutation(np.linspace(0.01, 0.99, total)) ** 1.7, rng.integers(0, labels, total)
    ends = np.cumsum(counts)
    return [
        Detections(boxes[end - count : end], scores[end - count : end], classes[end - count : end])
        for count, end in zip(counts, ends, strict=True)
    ]


@st.composite
def one_box(draw, size=SIZE):
    """A box with an area on a coarse grid of the image, so that overlaps and equal boxes are common."""
    height, width = size
    x1, y1 = draw(st.integers(0, 14)), draw(st.integers(0, 14))
    x2, y2 = draw(st.integers(x1 + 1, 16)), draw(st.integers(y1 + 1, 16))
    return [x1 / 16 * width, y1 / 16 * height, x2 / 16 * width, y2 / 16 * height]


@st.composite
def member_lists(draw, least=1, most=4, labels=2):
    """Some members with up to eight boxes each; equal scores, and scores of 0 and 1, are common."""
    found = []
    for _ in range(draw(st.integers(least, most))):
        rows = draw(st.lists(st.tuples(one_box(), SCORES, st.integers(0, labels - 1)), max_size=8))
        boxes, scores, classes = zip(*rows, strict=True) if rows else (np.zeros((0, 4)), [], [])
        found.append(Detections(np.array(boxes), np.array(scores), np.array(classes)))
    return found


def as_lists(members, size=SIZE):
    """The normalised lists that ensemble_boxes takes."""
    height, width = size
    boxes = [m.boxes.astype(np.float64) / [width, height, width, height] for m in members]
    return boxes, [m.scores.astype(np.float64) for m in members], [m.labels for m in members]


def same(found, boxes, scores, labels, size=SIZE, tolerance=1e-6):
    """Whether detections are those that ensemble_boxes gave, in shares of the image, and the best ones first."""
    height, width = size
    assert len(found) == len(boxes)
    assert (np.diff(found.scores) <= 0).all()
    ours = np.column_stack([found.boxes / [width, height, width, height], found.scores, found.labels])
    # one to one, since rounding decides the order of nearly equal scores
    distances = np.abs(ours[:, None] - np.column_stack([boxes, scores, labels])).max(2)
    if len(boxes):
        assert (distances.min(1) <= tolerance).all()
        assert sorted(distances.argmin(1)) == list(range(len(boxes)))


def fusion_cases(seed, count, noise=(0.02, 0.05), powers=(1, 1), truths=(0, 1, 2), size=SIZE):
    """Validation images of two members: per true box a near one, lower ones beside it, and false alarms.

    ``noise`` is the members' error as a share of the image; a score to the power of ``powers`` is what they give.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    scale = [width, height, width, height]
    cases = []
    for number in range(count):
        low = np.column_stack([[0.08, 0.55], rng.uniform(0.1, 0.4, 2)])[: truths[number % len(truths)]]
        truth = np.hstack([low, low + rng.uniform(0.2, 0.35, low.shape)])
        members = []
        for sigma, power in zip(noise, powers, strict=True):
            near = np.repeat(truth, 2, 0) + rng.normal(0, sigma, (2 * len(truth), 4))
            start = rng.uniform(0, 0.6, (6, 2))
            boxes = np.vstack([near, np.hstack([start, start + rng.uniform(0.1, 0.35, (6, 2))])]).clip(0, 1)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
            scores = np.concatenate([rng.beta(5, 2, len(near)), rng.beta(2, 5, 6)]) ** power
            members.append(Detections(boxes * scale, scores))
        cases.append(FusionCase(members, size, truth * scale, f"study{number // 2}"))
    return cases


@pytest.fixture(scope="session")
def fake():
    return SimpleNamespace(
        size=SIZE,
        members=random_members,
        member_lists=member_lists,
        as_lists=as_lists,
        same=same,
        cases=fusion_cases,
    )
