from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from covidmm.findings import STUDY_CLASSES
from covidmm.phantom.anatomy import draw_thorax
from covidmm.phantom.opacities import KINDS, VISIBLE, bounds
from covidmm.phantom.study import ENLARGED, plan_study, render

SIZE = (300, 330)


def studies_of(study_class, count):
    index, found = 0, []
    while len(found) < count:
        study = plan_study(3, index, SIZE)
        if study.study_class == study_class:
            found.append(study)
        index += 1
    return found


@pytest.fixture(scope="module")
def rendered():
    return {name: [(study, render(study, 0)) for study in studies_of(name, 8)] for name in STUDY_CLASSES}


def test_negative_has_no_opacity(rendered):
    for _, picture in rendered["negative"]:
        assert picture.boxes.shape == (0, 4)
        assert not picture.density.any()


def test_typical_lies_in_both_lungs_and_mostly_low(rendered):
    lower = []
    for study, picture in rendered["typical"]:
        width = study.shape[1]
        middles = picture.boxes[:, [0, 2]].mean(axis=1)
        assert (middles < 0.45 * width).any()
        assert (middles > 0.55 * width).any()
        assert 2 <= len(picture.boxes) <= 4
        lower.append(ndimage.center_of_mass(picture.density)[0] / study.shape[0])
    assert np.median(lower) > 0.5


def test_typical_is_peripheral_where_perihilar_indeterminate_is_central(rendered):
    def spread(name, boxes_wanted):
        away = []
        for study, picture in rendered[name]:
            if len(picture.boxes) >= boxes_wanted:
                columns = np.abs(np.arange(study.shape[1]) - study.shape[1] / 2) / study.shape[1]
                away.append((picture.density.sum(axis=0) * columns).sum() / picture.density.sum())
        return np.mean(away)

    assert spread("typical", 2) > spread("indeterminate", 2) + 0.03


def test_indeterminate_is_unilateral_or_central(rendered):
    for study, picture in rendered["indeterminate"]:
        left_of_picture = picture.boxes[:, [0, 2]].mean(axis=1) < study.shape[1] / 2
        if len(set(left_of_picture)) == 2:
            inner = np.abs(picture.boxes[:, [0, 2]] - study.shape[1] / 2).min(axis=1)
            assert (inner < 0.16 * study.shape[1]).all()
        else:
            assert len(picture.boxes) == 1


def test_atypical_has_an_opacity(rendered):
    assert all(len(picture.boxes) >= 1 for _, picture in rendered["atypical"])


@pytest.mark.parametrize("study_class", STUDY_CLASSES[1:])
def test_boxes_are_exact(rendered, study_class):
    """Against the mask itself: nothing visible outside, and every side of every box touched."""
    for study, picture in rendered[study_class]:
        visible = picture.density > VISIBLE
        outside = visible.copy()
        for x1, y1, x2, y2 in picture.boxes:
            assert 0 <= x1 < x2 <= study.shape[1]
            assert 0 <= y1 < y2 <= study.shape[0]
            inside = visible[y1:y2, x1:x2]
            assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            assert min(x2 - x1, y2 - y1) >= 0.08 * study.shape[1]
            outside[y1:y2, x1:x2] = False
        assert not outside.any()


@pytest.mark.parametrize("study_class", STUDY_CLASSES)
def test_the_finished_picture_differs_only_inside_the_boxes(rendered, study_class):
    """Same chest, same noise, with and without its opacities: what changes by 8 grey levels is boxed."""
    for study, picture in rendered[study_class]:
        without = render(study, 0, opacities=False)
        changed = np.abs(picture.grey - without.grey) > 8 / 255
        for x1, y1, x2, y2 in picture.boxes:
            rows, columns = np.nonzero(changed[y1:y2, x1:x2])
            spared = [columns.min(), x2 - x1 - 1 - columns.max(), rows.min(), y2 - y1 - 1 - rows.max()]
            assert max(spared) <= 0.02 * study.shape[1]
            assert changed[y1:y2, x1:x2].mean() > 0.3
            changed[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
        assert not changed.any()


def test_an_opacity_is_lighter_than_the_lung_beneath(rendered):
    for _, picture in rendered["typical"]:
        assert picture.grey[picture.density > VISIBLE].mean() > 0.35


def test_bounds_equal_scipy_and_meeting_boxes_are_joined():
    density = np.zeros((60, 80), np.float32)
    density[5:15, 5:20] = density[30:50, 40:70] = 2 * VISIBLE
    expected = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(ndimage.label(density)[0])]
    assert bounds(density).tolist() == [list(box) for box in sorted(expected)]
    density[45:55, 60:62] = 0
    density[52:56, 50:60] = 2 * VISIBLE  # apart by two rows
    assert len(bounds(density)) == 3
    density[50:52, 75:78] = density[40:50, 75:78] = 2 * VISIBLE
    density[51, 40:78] = 2 * VISIBLE  # runs under the second box: all three meet
    assert bounds(density).tolist()[1:] == [[40, 30, 78, 56]]


def test_nothing_visible_gives_no_box():
    assert bounds(np.full((9, 9), VISIBLE, np.float32)).shape == (0, 4)


def test_every_box_has_a_kind(rendered):
    seen = set()
    for study_class, pictures in rendered.items():
        for study, picture in pictures:
            kinds = dict(picture.kinds)
            seen |= set(kinds)
            assert ("cardiomegaly" in kinds) == (study.patient.heart > ENLARGED)
            for name in ("cardiomegaly", "pneumothorax"):
                assert len(kinds.pop(name, [0])) == 1
            assert [boxes.tolist() for boxes in kinds.values()] == (
                [picture.boxes.tolist()] if len(picture.boxes) else []
            )
            assert set(kinds) <= ({"opacity"} if study_class != "atypical" else set(KINDS) - {"opacity"})
    assert seen >= {"opacity", "consolidation", "effusion", "nodule", "cardiomegaly"}


def test_a_pneumothorax_is_boxed_where_it_darkens_the_lung_outside_its_line():
    for index in range(200):
        study = plan_study(3, index, SIZE, {"atypical": 1.0})
        picture = render(study, 0)
        if "pneumothorax" in picture.kinds:
            break
    ((x1, y1, x2, y2),) = picture.kinds["pneumothorax"].tolist()
    height, width = study.shape
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert y2 - y1 > 0.3 * height, "air rises to the apex"
    assert x2 < 0.6 * width or x1 > 0.4 * width, "of one lung"


def test_the_box_of_an_enlarged_heart_holds_it(upright, person):
    large, usual = (
        draw_thorax(upright, replace(person, heart=heart), np.random.default_rng(0)) for heart in (1.2, 1.0)
    )
    left, top, right, bottom = upright.bounds(large.heart)
    assert right - left > 1.1 * np.subtract(*upright.bounds(usual.heart)[[2, 0]])
    # wider than 0.55 of the chest between the lungs' outer edges
    edges = np.concatenate([upright.bounds(outline)[[0, 2]] for outline in large.outlines])
    assert right - left > 0.55 * (edges.max() - edges.min())
    changed = np.abs(large.attenuation - usual.attenuation) > 0.1
    assert changed[:, left:right].sum() == pytest.approx(changed.sum(), rel=0.05)
    assert changed[: top - 3].sum() < 0.02 * changed.sum()
    assert bottom < 300
