import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from covidmm.evaluation.classification import calibration, confusion
from covidmm.reports.figures.png_figures import draw_sweep, paint_confusion, paint_reliability

CLASSES = ["negative", "typical", "indeterminate", "atypical"]
TARGETS = np.eye(4)[[0, 0, 1, 2, 3]]
SCORES = np.eye(4)[[0, 1, 1, 2, 0]] * 0.6 + 0.1


@pytest.fixture
def figure():
    return Figure()


def test_the_matrix_shows_every_count_and_share(figure):
    paint_confusion(figure, CLASSES, confusion(TARGETS, SCORES))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts][:4] == ["1\n50%", "1\n50%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES


def test_a_class_without_a_case_is_a_row_of_dashes(figure):
    paint_confusion(figure, CLASSES, confusion(TARGETS[:4], SCORES[:4]))
    assert [text.get_text() for text in figure.axes[0].texts][12:] == ["-"] * 4


def test_reliability_is_drawn_per_bin(figure):
    paint_reliability(figure, calibration(TARGETS, SCORES))
    above, below = figure.axes
    assert above.collections[1].get_offsets().tolist() == [[pytest.approx(0.7), pytest.approx(0.6)]]
    assert [bar.get_height() for bar in below.patches] == [5]
    assert below.texts[0].get_text() == "5"


def rows(weights=((1.0, 1.0), (1.0, 2.0))):
    return [
        {"iou_thr": iou, "skip_box_thr": skip, "weights": list(own), "mAP_50": iou - skip + own[-1] / 10}
        for iou, skip, own in itertools.product((0.4, 0.5, 0.6), (0.0, 0.1), weights)
    ]


def test_a_panel_per_number_with_the_best_marked(tmp_path):
    draw_sweep(rows(), tmp_path / "new" / "sweep.png")
    picture = np.asarray(Image.open(tmp_path / "new" / "sweep.png").convert("RGB")).astype(int)
    marked = (np.abs(picture - [0xD5, 0x5E, 0x00]) < 12).all(2)
    thirds = np.array_split(marked, 3, axis=1)
    assert all(part.sum() > 30 for part in thirds)


@pytest.mark.parametrize("kept", [slice(0, 1), slice(None)])
def test_numbers_with_one_value_have_no_panel(tmp_path, kept):
    draw_sweep(rows([(1.0, 1.0)])[kept], tmp_path / "sweep.png")
    width = Image.open(tmp_path / "sweep.png").width
    assert width < 1200
