from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.findings import STUDY_CLASSES
from covidmm.phantom.study import plan_study, render

SIZE = (300, 330)


@given(seed=st.integers(0, 2**40))
@settings(max_examples=20, deadline=None)
def test_every_class_occurs_in_eight_studies(seed):
    assert {plan_study(seed, k, SIZE).study_class for k in range(8)} == set(STUDY_CLASSES)


def test_a_picture_is_the_same_to_the_last_bit_each_time():
    """Also beside other memory and other threads, on which OpenCV's precise distance transform depends."""
    study = plan_study(4, 2, SIZE)
    first = render(study, 0).grey
    threads, kept = cv2.getNumThreads(), []
    try:
        for number in range(6):
            cv2.setNumThreads(1 + number % 2)
            kept.append(np.empty(1000 * (number + 1) + 4 * number, np.uint8))
            assert (render(study, 0).grey == first).all()
    finally:
        cv2.setNumThreads(threads)


def test_what_gdcm_cannot_compress_is_never_planned():
    odd = [
        s.shape
        for s in (plan_study(1, k, SIZE) for k in range(400))
        if s.bits == 8 and "JPEG Lossless" in s.syntax.name
    ]
    assert odd
    assert all(height * width % 2 == 0 for height, width in odd)


def test_the_mix_follows_siim():
    planned = [plan_study(11, index, SIZE) for index in range(600)]

    def share(field):
        return {key: count / 600 for key, count in Counter(getattr(s, field) for s in planned).items()}

    expected = {"negative": 1676, "typical": 2855, "indeterminate": 1049, "atypical": 474}
    for name, count in expected.items():
        assert share("study_class")[name] == pytest.approx(count / 6054, abs=0.02)
    assert share("photometric")["MONOCHROME1"] == pytest.approx(1701 / 6334, abs=0.02)
    assert set(share("bits")) == {8, 10, 12, 14, 15, 16}
    assert len(share("syntax")) == 4
    assert sum(len(s.images) == 2 for s in planned) / 600 == pytest.approx(0.05, abs=0.02)
    assert {s.patient.view for s in planned} == {"AP", "PA"}
    assert min(s.patient.age for s in planned) >= 18
    # Nothing in the header gives the class away.
    for field in ("photometric", "modality"):
        both = Counter((s.study_class, getattr(s, field)) for s in planned)
        shares = [both[name, max(share(field))] / sum(both[name, v] for v in share(field)) for name in STUDY_CLASSES]
        assert max(shares) - min(shares) < 0.2


def test_ids_are_twelve_hex_digits_and_unique():
    planned = [plan_study(seed, index, SIZE) for seed in (0, 1) for index in range(200)]
    ids = [i for s in planned for i in (s.study, s.patient_id, *s.series, *s.images)]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 12 and int(i, 16) >= 0 for i in ids)


def test_shapes_vary_and_keep_the_longer_side():
    shapes = [plan_study(0, index, SIZE).shape for index in range(80)]
    assert all(SIZE[0] <= max(shape) <= SIZE[1] for shape in shapes)
    portrait = sum(height > width for height, width in shapes)
    assert 15 < portrait < 65


def test_a_picture_looks_like_a_chest():
    """Dark lungs left and right of a bright middle, above a bright belly."""
    for index in range(3):
        study = plan_study(5, index, SIZE)
        grey = render(study, 0, opacities=False).grey
        height, width = grey.shape
        band = grey[int(0.38 * height) : int(0.5 * height)]
        left, middle, right = (
            np.median(band[:, int(a * width) : int(b * width)]) for a, b in ((0.2, 0.35), (0.47, 0.53), (0.65, 0.8))
        )
        belly = np.median(grey[int(0.85 * height) : int(0.93 * height), int(0.4 * width) : int(0.6 * width)])
        assert max(left, right) + 0.15 < middle
        assert max(left, right) + 0.15 < belly
        assert grey.min() < 0.05


def test_two_images_of_a_patient_differ_in_pose_alone():
    study = next(s for s in (plan_study(0, i, SIZE) for i in range(200)) if len(s.images) == 2)
    one, two = render(study, 0), render(study, 1)
    assert one.grey.shape == two.grey.shape
    assert np.abs(one.grey - two.grey).mean() > 0.01
    assert (len(one.boxes) == 0) == (len(two.boxes) == 0)
