import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder, PreparedSplit
from covidmm.reports.figures.data_figures import SIZE, box_area_figure, class_figure, data_figures, header_table

BOX = np.array([[0.0, 0.0, 10.0, 20.0]])


def prepared(*images):
    return PreparedFolder("small", None, {}, {"train": PreparedSplit(None, images)})


def image(boxes=BOX, study_class="typical", labels=None, width=200, **coco):
    return AnnotatedImage(
        path=None,
        image_id="image",
        study_id="study",
        boxes=boxes,
        labels=np.zeros(len(boxes), np.int64),
        size=(50, 100),
        original_size=(100, width),
        study_class=study_class,
        findings=labels,
        coco={"original_width": width, "original_height": 100, **coco},
    )


def test_numbers_are_those_of_the_data():
    data = prepared(image(), image(BOX[:0], "negative"), image(np.repeat(BOX, 2, 0)))
    classes, counts, areas = data_figures(data)
    assert list(classes.rows) == [("typical", 2, 2), ("negative", 1, 1)]
    assert list(counts.rows) == [(0, 1), (1, 1), (2, 1)]
    assert sum(row[2] for row in areas.rows) == 3
    assert len(areas.rows) == 100
    # 10 x 20 at twice the width and height
    assert "median 800" in areas.caption


def test_sizes_are_drawn_only_where_they_differ():
    data = prepared(image(BOX[:0]), image(BOX[:0], width=300))
    assert [one.name for one in data_figures(data)] == ["classes_small", "sizes_small"]


def test_header_values_are_counted_by_name():
    data = prepared(image(transfer_syntax="1.2.840.10008.1.2.4.90"), image(transfer_syntax=None), image())
    assert header_table(data, "transfer_syntax") == {
        "not stated": 2,
        "JPEG 2000 Image Compression (Lossless Only)": 1,
    }
    assert header_table(data, SIZE) == {"200 x 100": 3}


@pytest.mark.parametrize("labels", [["Mass"], ["Mass", "Pleural_Thickening", "No Lung Opacity / Not Normal"]])
def test_one_class_or_long_names_are_drawn(labels):
    data = prepared(image(study_class=None, labels=tuple(labels)))
    assert [row[0] for row in class_figure(data).rows] == labels
    assert box_area_figure(data).rows
