"""Anchors against scikit-learn's k-means and counts by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

from covidmm.datasets.anchors import COCO_ANCHORS, anchor_report, box_sides, fit_anchors, fit_of
from covidmm.errors import DataError

TOOL = Path(__file__).parents[2] / "tools/prepare.py"


@pytest.fixture
def sides():
    random = np.random.default_rng(0)
    centres = np.array([[20, 30], [80, 60], [100, 200]])
    return np.concatenate([centre * np.exp(random.normal(0, 0.1, (40, 2))) for centre in centres])


def coco(path, boxes, width=1000, height=500):
    images = [{"id": 1, "file_name": "a.png", "width": width, "height": height}]
    annotations = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1} for i, box in enumerate(boxes, 1)]
    categories = [{"id": 1, "name": "opacity"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_clusters_are_found_as_scikit_learn_finds_them(sides):
    reference = np.exp(KMeans(3, n_init=10, random_state=0).fit(np.log(sides)).cluster_centers_)
    reference = reference[np.argsort(reference.prod(1))]
    assert fit_anchors(sides, 3) == pytest.approx(reference, rel=1e-6)
    assert fit_anchors(sides, 3) == pytest.approx(fit_anchors(sides, 3))


def test_fit_by_hand():
    found = fit_of(np.array([[10.0, 10], [40, 10], [100, 100]]), np.array([[10.0, 10], [20, 20]]))
    # best ratios 1, 2 (to 20 x 20) and 5
    assert found.recall == pytest.approx(2 / 3)
    assert found.ratio == pytest.approx((1 * 2 * 5) ** (1 / 3))
    # 10 x 10 answers for the first; 40 / 10 is not below 4; 20 x 20 answers for the first two
    assert found.answering == pytest.approx((2 + 1 + 0) / 3)


def test_anchors_that_are_the_boxes_fit_perfectly():
    anchors = np.array(COCO_ANCHORS, float)
    found = fit_of(anchors, anchors)
    assert (found.recall, found.ratio) == (1, pytest.approx(1))


def test_sides_are_those_of_the_letterbox(tmp_path):
    assert box_sides(coco(tmp_path / "a.json", [[0, 0, 100, 50]]), 500).tolist() == [[50, 25]]


def test_the_report_ends_with_config_text(tmp_path, sides):
    report = anchor_report(coco(tmp_path / "a.json", [[0, 0, *pair] for pair in sides.tolist()]), 1000)
    namespace = {}
    exec(report.splitlines()[-1], namespace)
    sizes = namespace["model"]["bbox_head"]["prior_generator"]["base_sizes"]
    assert [len(level) for level in sizes] == [3, 3, 3]
    assert "100.0%" in report


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{}", "is no COCO file"),
        ("text", "is not JSON"),
        ('{"images": [], "annotations": [], "categories": []}', "holds no box"),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, cause):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=cause):
        anchor_report(tmp_path / "a.json", 512)


def test_too_few_boxes_and_a_missing_file_from_the_tool(tmp_path):
    few = coco(tmp_path / "few.json", [[0, 0, 10, 10]] * 20)
    for path, cause in ((few, "too few"), (tmp_path / "none.json", "no such file")):
        command = [sys.executable, TOOL, "anchors", path]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == 1
        assert cause in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
