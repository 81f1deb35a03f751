"""A report of data sets alone, and its samples of every class."""

import json

import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import DataError
from covidmm.reports.report_page import _evaluated, report
from covidmm.reports.sample_panels import sample_panels
from tests.reports.conftest import write_prepared


@pytest.fixture
def data(tmp_path):
    write_prepared(tmp_path / "small", 12)
    return tmp_path / "small"


def test_every_class_has_its_row_with_the_true_boxes(data):
    drawn = sample_panels(read_prepared(data), each=2)
    content = json.loads((data / "annotations/test.json").read_text())
    kinds = {image["image_id"]: image["study_class"] for image in content["images"]}
    assert [row[0] for row in drawn.rows] == [name for name in sorted(set(kinds.values())) for _ in range(2)]
    assert all(kinds[image] == kind for kind, _, image, _, _ in drawn.rows)
    assert drawn.svg.count("data:image/jpeg") == len(drawn.rows)
    # an outline and its rim for each box
    assert drawn.svg.count('fill="none"') == 2 * sum(row[-1] for row in drawn.rows)
    assert drawn.svg == sample_panels(read_prepared(data), each=2).svg


def test_a_data_set_alone_has_a_report(data, tmp_path):
    text = report([], [data], tmp_path / "out").read_text()
    for title in (
        "images per class",
        "boxes per image",
        "box areas",
        "samples of every class",
        "age, years",
        "50 to 59",
    ):
        assert title in text, title
    assert "not a medical device" in text
    for absent in ("No results yet", "training log", "Run facts"):
        assert absent not in text
    assert (tmp_path / "out/figures/samples_small.csv").is_file()


def test_a_folder_that_is_no_data_set_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no annotations/train\.json"):
        report([], [tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("metrics", "origin", "text"),
    [
        ({"images": 7}, {"data": "own/val.json"}, "7 images of own/val.json"),
        ({"cases": 3}, {"data": "test.json"}, "3 cases of test.json"),
        ({}, {}, "the images of an annotation file that was not recorded"),
    ],
)
def test_what_was_evaluated_is_named(metrics, origin, text):
    assert _evaluated(metrics, origin) == text
