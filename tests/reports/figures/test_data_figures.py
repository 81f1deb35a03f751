import numpy as np
import pytest

from covidmm.reports.figures.data_figures import SIZE, box_area_figure, class_figure, data_figures, header_table
from covidmm.reports.reported_data import Prepared, Split


def prepared(images, boxes):
    return Prepared("small", None, {}, {"train": Split(None, images, boxes)})


def image(number, **extra):
    size = {"width": 100, "height": 50, "original_width": 200, "original_height": 100}
    return {"id": number, "study_class": "typical", **size, **extra}


BOX = np.array([[0.0, 0.0, 10.0, 20.0]])


def test_numbers_are_those_of_the_data():
    data = prepared([image(1), image(2, study_class="negative"), image(3)], [BOX, BOX[:0], np.repeat(BOX, 2, 0)])
    classes, counts, areas = data_figures(data)
    assert list(classes.rows) == [("typical", 2, 2), ("negative", 1, 1)]
    assert list(counts.rows) == [(0, 1), (1, 1), (2, 1)]
    assert sum(row[2] for row in areas.rows) == 3
    assert len(areas.rows) == 100
    # 10 x 20 at twice the width and height
    assert "median 800" in areas.caption


def test_sizes_are_drawn_only_where_they_differ():
    data = prepared([image(1), image(2, original_width=300)], [BOX[:0]] * 2)
    assert [one.name for one in data_figures(data)] == ["classes_small", "sizes_small"]


def test_header_values_are_counted_by_name():
    data = prepared(
        [image(1, transfer_syntax="1.2.840.10008.1.2.4.90"), image(2, transfer_syntax=None), image(3)], [BOX] * 3
    )
    assert header_table(data, "transfer_syntax") == {
        "not stated": 2,
        "JPEG 2000 Image Compression (Lossless Only)": 1,
    }
    assert header_table(data, SIZE) == {"200 x 100": 3}


@pytest.mark.parametrize("labels", [["Mass"], ["Mass", "Pleural_Thickening", "No Lung Opacity / Not Normal"]])
def test_one_class_or_long_names_are_drawn(labels):
    data = prepared([image(1, study_class=None, labels=labels)], [BOX])
    assert [row[0] for row in class_figure(data).rows] == labels
    assert box_area_figure(data).rows
