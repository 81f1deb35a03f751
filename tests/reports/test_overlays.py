import csv
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.reports.detections import of_fused
from covidmm.reports.overlays import case_rows, class_looks, sheet
from covidmm.reports.runs import find_runs


@pytest.fixture
def found(world):
    (fused,) = find_runs([world.ensemble]).fused
    return of_fused(fused, list(read_prepared(world.data).splits.values()))


def outlines(shown):
    return [one for one in shown.iter("rect") if one.get("stroke", "#000") != "#000"]


def test_every_view_shows_its_own_boxes(found):
    for row in case_rows(found, each=1):
        assert [tile.label for tile in row.tiles] == ["truth", "frcnn", "yolo", "ensemble"]
        index = next(number for number, image in enumerate(found.images) if image["image_id"] == row.image.name)
        for tile in row.tiles:
            shown = ET.fromstring(tile.svg)
            drawn = outlines(shown)
            predicted = 0 if tile.label == "truth" else len(found.above(tile.label, index))
            assert len(drawn) == len(row.image.truth) + predicted
            assert len(list(shown.iter("text"))) == predicted
            dashed = sum("stroke-dasharray" in one.attrib for one in drawn)
            if tile.label == "ensemble":
                assert dashed == sum(row.image.counts[1:])
            if tile.label == "truth":
                assert dashed == 0


def test_boxes_are_scaled_to_the_picture(found):
    row = case_rows(found, each=1)[0]
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', row.tiles[0].svg).groups())
    assert (width, height) == (200, 160)  # a small picture is not blown up
    box = outlines(ET.fromstring(row.tiles[0].svg))[0]
    x1 = row.image.truth.boxes[0][0] * width / row.image.size[1]
    assert float(box.get("x")) == pytest.approx(x1, abs=0.06)


def test_the_sheet_is_one_svg_with_a_row_in_its_table_per_case(found):
    rows = case_rows(found)
    drawn = sheet(found, rows)
    ET.fromstring(drawn.file())
    named = [one["image"] for one in csv.DictReader(io.StringIO(drawn.csv().decode()))]
    assert named == [row.image.name for row in rows]
    ids = re.findall(r' id="([^"]+)"', drawn.svg)
    assert len(set(ids)) == len(ids) == len(rows)
    assert set(re.findall(r'<use href="#([^"]+)"', drawn.svg)) == set(ids)


def test_a_picture_that_is_gone_leaves_a_field_that_says_so(found):
    for path in (found.split.folder / "images").iterdir():
        path.unlink()
    row = case_rows(found, each=1)[0]
    assert f"{row.image.path.name} cannot be read" in row.picture


def test_names_cannot_break_the_page(found):
    rows = case_rows(found, each=1)
    rows[0] = replace(rows[0], image=replace(rows[0].image, name='<script>"'))
    assert "<script>" not in sheet(found, rows).svg


def test_cases_of_several_classes_have_a_legend(found):
    assert class_looks(case_rows(found, each=1)) == []
    truths = [replace(truth, labels=np.arange(len(truth)) % 2) for truth in found.truths]
    rows = case_rows(replace(found, classes=("opacity", '<b>&"', "never found"), truths=truths), each=1)
    names = [name for name, _ in class_looks(rows)]
    assert names == ["truth", "missed truth", "prediction", "false positive", "opacity", '<b>&"']
    drawn = ET.fromstring(sheet(found, rows).svg)
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-len(names) :] == names
    # the legend has a place of its own below the rows: three views of 300 pixels and their heads
    place = next(one.get("transform") for one in drawn.iter() if (one.get("transform") or "").startswith("translate"))
    below = float(re.findall(r"[\d.]+", place)[-1])
    assert len(rows) * 300 < below < float(drawn.get("viewBox").split()[3])
