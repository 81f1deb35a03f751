import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from covidmm.errors import DataError
from covidmm.reports.detections import OPTIMISTIC
from covidmm.reports.report_page import _threshold_remark, report
from tests.helpers.processor_time import used
from tests.helpers.tool_runs import run_tool

pytestmark = pytest.mark.e2e  # whole reports

ROOT = Path(__file__).resolve().parents[2]


class Outside(HTMLParser):
    """Collects ids and everything that a browser would load."""

    def __init__(self):
        super().__init__()
        self.loaded, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.ids += [own["id"]] if "id" in own else []
        if tag != "a":
            self.loaded += [own[key] for key in ("src", "href", "xlink:href", "data", "srcset") if key in own]


def test_the_page_has_every_chapter_and_loads_nothing(world):
    page = report([world.work], [], world.root / "report")
    text = page.read_text()
    for title in (
        "Precision and recall at IoU 0.5",
        "FROC",
        "Confusion of the classes",
        "Reliability",
        "Learning rate",
        "Losses",
        "Validation metrics",
        "images per class",
        "boxes per image",
        "box areas",
        "JPEG Lossless",
        "values differ from the config",
        "cafe+changes",
        "not a medical device",
    ):
        assert title in text, title
    for kind in ("best", "median", "worst"):
        assert f'<span class="kind">{kind}</span>' in text
    parser = Outside()
    parser.feed(text)
    assert all(one.startswith(("#", "data:")) for one in parser.loaded)
    assert len(set(parser.ids)) == len(parser.ids)
    assert not re.search(r"url\((?!#)", text)
    assert {one[1:] for one in parser.loaded if one.startswith("#")} <= set(parser.ids)


def test_a_page_of_several_classes_shows_each(findings):
    page = report([findings.work], [], findings.root / "report")
    text = page.read_text()
    for title in (
        "ensemble, class by class",
        "AP@.50 of every detector, class by class",
        "Precision and recall at IoU 0.5, class by class",
        "FROC: sensitivity against false alarms, class by class",
        "ensemble: confusion of the classes",
        "ensemble: kinds of errors",
        "ensemble: calibration of the scores, class by class",
        "Boxes of every class, and the images that they are on",
        '<span class="kind">best, Pneumothorax</span>',
        "one per class",
    ):
        assert title in text, title
    assert not re.findall(r"opacit(?:y(?![:=])|ies)", text, re.IGNORECASE)  # but SVG has it
    files = page.parent / "figures"
    with (files / "froc_ensemble_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"Nodule/Mass", "Pleural effusion", "Pneumothorax"}
    assert {row["detector"] for row in rows} == {"frcnn", "yolo", "ensemble"}
    parser = Outside()
    parser.feed(text)
    assert len(set(parser.ids)) == len(parser.ids)


def test_a_class_without_a_box_or_a_prediction_has_dashes(findings):
    content = json.loads(findings.annotations.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] != 3]
    findings.annotations.write_text(json.dumps(content))
    text = report([findings.ensemble], [findings.data], findings.root / "report").read_text()
    assert "without a panel, for want of boxes or of space: Pneumothorax" in text
    assert re.search(r'<th scope="row">Pneumothorax</th><td>0</td><td>0</td><td>-</td>', text)


def test_every_figure_lies_beside_the_page_as_svg_and_csv(world):
    page = report([world.work], [], world.root / "report")
    linked = set(re.findall(r'href="(figures/[^"]+)"', page.read_text()))
    assert linked
    assert all((page.parent / one).is_file() for one in linked)
    assert {path.suffix for path in (page.parent / "figures").iterdir()} == {".svg", ".csv"}
    with (page.parent / "figures" / "losses_frcnn.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [2.5, 1.25, pytest.approx(2.5 / 3), 0.625]


def test_twice_gives_the_same_figures(world):
    def figures(out):
        report([world.work], [], out)
        return {path.name: path.read_bytes() for path in (out / "figures").iterdir()}

    assert figures(world.root / "a") == figures(world.root / "b")


@pytest.mark.parametrize(
    "damage",
    [
        lambda world: (world.run / "predictions.json").write_text("{"),
        lambda world: (world.run / "metrics.json").write_text('{"detectors": '),
        lambda world: world.scalars.write_text('{"lr": NaN, "loss": Infinity, "epoch": 1, "step": 1}\n{"lr"'),
        lambda world: (world.run / "frcnn_small.py").write_text("a = ("),
        lambda world: (world.ensemble / "test" / "yolo.json").unlink(),
        lambda world: (world.ensemble / "test" / "study.json").write_text("[]"),
        lambda world: (world.ensemble / "operating.json").unlink(),
        lambda world: world.annotations.write_text("[]"),
        lambda world: world.annotations.unlink(),
        lambda world: (world.data / "prepared.json").unlink(),
        lambda world: (world.run / "20260101_000000" / "20260101_000000.log").write_bytes(b"\xff\x00"),
    ],
)
def test_a_damaged_part_costs_a_sentence_not_the_page(world, damage):
    damage(world)
    text = report([world.work], [], world.root / "report").read_text()
    assert "Run facts" in text


def test_a_folder_that_is_no_run_is_noted_and_alone_an_error(world, capsys):
    report([world.run, world.root / "none"], [], world.root / "report")
    assert "none: no such folder" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"nothing of tools/train\.py"):
        report([world.data], [], world.root / "report2")
    assert not (world.root / "report2").exists()


def test_a_threshold_that_validation_did_not_choose_is_told(world):
    assert "not chosen on validation" not in report([world.work], [], world.root / "a").read_text()
    (world.ensemble / "operating.json").unlink()
    assert "not chosen on validation, but on this split" in report([world.work], [], world.root / "b").read_text()


def test_markup_in_names_is_text(world):
    content = json.loads(world.annotations.read_text())
    for image in content["images"]:
        image["photometric"] = image["image_id"] = "<script>alert(1)</script>"
    world.annotations.write_text(json.dumps(content))
    assert "<script>alert" not in report([world.run], [world.data], world.root / "report").read_text()


@pytest.mark.e2e
def test_the_tool_makes_a_report_of_859_images_and_50_epochs_in_time(world_of, tmp_path):
    world = world_of(tmp_path, images=859, epochs=50, boxes=20)
    command = [sys.executable, ROOT / "tools" / "report.py", world.work, "--out", tmp_path / "report"]
    start = used()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = used() - start
    assert run.returncode == 0, run.stderr
    size = (tmp_path / "report" / "report.html").stat().st_size
    print(f"{seconds:.1f} s, {size / 1e6:.1f} MB")
    assert size < 15e6
    assert seconds < 60


@pytest.mark.e2e
def test_the_tool_ends_in_one_line_where_nothing_was_recognised(tmp_path):
    run = run_tool("report.py", tmp_path, "--out", tmp_path / "report")
    assert run.code == 1
    assert run.output.startswith(f"error: {tmp_path}: nothing of")
    assert len(run.output.splitlines()) == 1


@pytest.mark.parametrize("change", [{"detectors": 5}, {"provenance": 5}, {"detectors": {"frcnn": {"mAP_50": "x"}}}])
def test_a_run_whose_metrics_are_no_metrics_leaves_a_sentence(world, tmp_path, change):
    path = world.run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    page = report([world.run, world.ensemble], [], tmp_path / "out").read_text()
    assert str(path.parent.name) in page


def test_thresholds_of_an_ensemble_are_not_called_unvalidated():
    source = "the 5 validation images of data/a"
    assert _threshold_remark(source, ["a", "b"]) == f"The thresholds of a, b come from {source}."
    told = "The threshold of a was not chosen on validation, but on this split, maximising F1 (optimistic)."
    assert _threshold_remark(OPTIMISTIC, ["a"]) == told
