import itertools

import numpy as np
import pytest
from PIL import Image

from covidmm.reports.figures.png_figures import draw_sweep


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
