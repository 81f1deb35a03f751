import csv
import io
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest

from covidmm.reports.figures.style import BLUE, DASHES, PALETTE, draw


def paint(figure):
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 2], label="a & b")
    axes.set_xlabel("time")
    axes.legend()


@pytest.fixture(scope="module")
def drawn():
    return draw("one", "Title", "", paint, ("x", "text"), [(1, 'a "b"'), (2, "c,d")])


def test_text_is_text_and_takes_the_colour_of_the_page(drawn):
    texts = {text.text for text in ET.fromstring(drawn.svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"time", "a & b"} <= texts
    assert "currentColor" in drawn.svg
    assert "#000000" not in drawn.svg
    assert BLUE.lower() in drawn.svg
    assert BLUE.lower() not in drawn.inline


def test_the_file_is_a_whole_svg_on_white(drawn):
    root = ET.fromstring(drawn.file())
    assert root.get("viewBox")
    assert "background:#fff" in root.get("style")
    assert "var(" not in drawn.file().decode()


def test_the_numbers_are_csv(drawn):
    assert list(csv.reader(io.StringIO(drawn.csv().decode()))) == [["x", "text"], ["1", 'a "b"'], ["2", "c,d"]]


def test_the_same_figure_is_the_same_bytes_and_ids_differ_between_names(drawn):
    def ids(svg):
        return {one.get("id") for one in ET.fromstring(svg).iter() if one.get("id")}

    assert draw("one", "Title", "", paint, (), []).svg == drawn.svg
    assert ids(drawn.svg)
    assert not ids(draw("two", "Title", "", paint, (), []).svg) & ids(drawn.svg)


def test_colours_are_told_apart_with_every_kind_of_colour_vision():
    # Machado et al. (2009), severity 1.0
    simulated = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array([[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)] for colour in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for kind, matrix in simulated.items():
        lab = _lab(np.clip(linear @ np.array(matrix).T, 0, 1))
        for first, second in combinations(range(4), 2):
            assert np.linalg.norm(lab[first] - lab[second]) > 15, (kind, PALETTE[first], PALETTE[second])
    assert len(set(map(str, DASHES))) == len(PALETTE)


def _lab(linear):
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
