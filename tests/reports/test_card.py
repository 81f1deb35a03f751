import hashlib
import json
from pathlib import Path

import pytest

from covidmm.errors import DataError
from covidmm.reports.card import make_card, write_card
from tests.helpers.tool_runs import run_tool

FINDINGS = ("Nodule/Mass", "Pleural effusion", "Pneumothorax")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(world, monkeypatch):
    """A store with one published detector, made from the world's run."""
    folder = world.root / "checkpoints"
    folder.mkdir()
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(folder))
    config = (
        "model = dict(type='FasterRCNN', backbone=dict(type='ResNet'))\nrandomness = dict(seed=3)\n"
        "default_hooks = dict(checkpoint=dict(save_best='detection/mAP_50'))\n"
    )
    content = {
        "name": "frcnn_small",
        "sha256": hashlib.sha256(b"published").hexdigest(),
        "source": str(world.run / "best_epoch_2.pth"),
        "experiment": "frcnn_small_1",
        "epoch": 2,
        "seed": 3,
        "data": [str(world.data)],
        "classes": ["opacity"],
        "validation": {"detection/mAP_50": 0.5, "val_loss": 1.0},
        "config": config,
    }
    (folder / "frcnn_small.json").write_text(json.dumps(content))
    return folder


def answer(items, text):
    (found,) = [item.answer for item in items if item.text.startswith(text)]
    return found


def test_a_published_checkpoint_has_its_facts_and_the_rest_is_open(store):
    card = make_card("covidmm://frcnn_small")
    assert dict(card.facts)["seed"] == "3"
    assert [title for title, _ in card.tables] == ["Validation, on which it was chosen", "Test"]
    assert "[" in card.tables[1][1].rows[0][1]  # an interval
    assert card.remarks == []
    assert answer(card.claim, "Model: inputs") == "FasterRCNN with ResNet; classes opacity."
    assert answer(card.claim, "Partitions") == "Images: small: test 24."
    assert "F 24, median age 50 of 24" in answer(card.claim, "Demographic")
    assert answer(card.claim, "De-identification") is None
    assert answer(card.roberts, "External validation") is None
    assert answer(card.roberts, "Performance with") is not None


def test_both_forms_are_written_and_mark_what_is_open(store, tmp_path):
    markdown, page = write_card("frcnn_small", [], [], tmp_path / "card")
    assert (markdown.name, page.name) == ("frcnn_small.md", "frcnn_small.html")
    for path, mark in ((markdown, "**OPEN**"), (page, '<span class="open">OPEN</span>')):
        text = path.read_text()
        assert "not a medical device" in text
        assert text.count(mark) > 20
        assert "FasterRCNN with ResNet" in text
    # a table of Markdown has no empty line in it
    lines = markdown.read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("|---")]
    assert len(rules) == 4
    assert all(lines[number - 1].startswith("|") and lines[number + 1].startswith("|") for number in rules)


def test_a_member_has_the_intervals_of_its_ensemble(store, world):
    metrics = {"mAP_50": 0.7, "mAP_50_interval": [0.6, 0.8], "threshold": 0.5}
    sha = json.loads((store / "frcnn_small.json").read_text())["sha256"]
    origin = {"members": {"frcnn": {"checkpoint_sha256": sha}, "yolo": {"checkpoint_sha256": "other"}}}
    content = {"detectors": {"frcnn": metrics, "yolo": metrics}, "provenance": {"ensemble": origin}}
    (world.ensemble / "test" / "metrics.json").write_text(json.dumps(content))
    card = make_card("frcnn_small", [world.ensemble])
    title, table = card.tables[-1]
    assert title == "As a member of ensemble/test"
    assert [row[:2] for row in table.rows] == [["frcnn", "0.700 [0.600, 0.800]"]]


def test_a_work_dir_has_a_card_of_its_own(world):
    card = make_card(str(world.run))
    assert card.name == "frcnn"
    assert dict(card.facts)["weights, sha256"] == hashlib.sha256(b"weights").hexdigest()
    # of the epoch that the tested checkpoint is of, not of the best one
    assert card.tables[0][1].rows == [["0.500", "0.500"]]


def test_what_is_not_there_is_said(store, world):
    (world.run / "metrics.json").unlink()
    world.annotations.unlink()
    card = make_card("frcnn_small")
    assert any("No test" in remark for remark in card.remarks)
    assert any("annotations" in remark for remark in card.remarks)
    assert answer(card.claim, "Partitions") is None
    assert answer(card.claim, "Uncertainty") is None


def test_phantoms_are_named_as_what_they_are(store, world):
    world.annotations.write_text(
        world.annotations.read_text().replace('"sex": "F"', '"sex": "F", "manufacturer": "covidmm phantom"')
    )
    card = make_card("frcnn_small")
    assert "phantoms" in answer(card.claim, "Prospective")
    assert "phantoms" in card.limits[-1]


@pytest.mark.parametrize("content", [None, "{half"])
def test_an_unknown_or_damaged_one_is_refused(store, content):
    if content:
        (store / "broken.json").write_text(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        make_card("broken")


@pytest.mark.e2e
def test_the_tool_writes_the_card_and_names_it(store, tmp_path):
    environment = {"COVIDMM_CHECKPOINTS": str(store)}
    run = run_tool("report.py", "--card", "frcnn_small", "--out", tmp_path / "card", env=environment)
    assert run.code == 0, run.output
    assert run.output.splitlines() == [f"card: {tmp_path}/card/frcnn_small.{kind}" for kind in ("md", "html")]


def test_a_card_of_odd_content_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    (tmp_path / "odd.json").write_text('{"data": 5}')
    with pytest.raises(DataError, match="odd: its files are not as covidmm writes them"):
        write_card("odd", [], [], tmp_path / "out")


def test_a_card_tells_the_hashes_and_versions_of_its_training(store):
    path = store / "frcnn_small.json"
    origin = {"config_resolved_sha256": "c0ffee", "data_sha256": "decade", "versions": {"torch": "2.0"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "provenance": origin, "source": "gone.pth"}))
    card = make_card("frcnn_small")
    facts = dict(card.facts)
    assert facts["config with its bases and overrides, sha256"] == "c0ffee"
    assert facts["data, sha256"] == "decade"
    assert "torch 2.0" in str(card.claim)


def test_a_card_of_several_classes_has_a_row_for_each(findings):
    lines = (findings.run / "20260101_000000" / "vis_data" / "scalars.json").read_text()
    found = {f"detection/{key}_{name}": 0.25 for name in FINDINGS for key in ("mAP_50", "f1", "boxes")}
    epoch = json.dumps({"detection/mAP_50": 0.5, **found, "step": 2})
    (findings.run / "20260101_000000" / "vis_data" / "scalars.json").write_text(f"{lines}{epoch}\n")
    paths = write_card(str(findings.run), [], [findings.data], findings.root / "card")
    card = make_card(str(findings.run), data=[findings.data])
    tables = dict(card.tables)
    assert [row[0] for row in tables["Test, class by class"].rows] == list(FINDINGS)
    assert card.subject == ", ".join(FINDINGS)
    for path in paths:
        assert "opacit" not in path.read_text().lower()
        assert "finding or classifying Nodule/Mass, Pleural effusion, Pneumothorax on" in path.read_text()


def test_a_validation_of_several_classes_is_a_row_for_each(store):
    path = store / "frcnn_small.json"
    content = json.loads(path.read_text())
    values = {f"detection/{key}_{name}": 0.25 for name in ("nodule", "mass") for key in ("mAP_50", "f1")}
    content |= {"classes": ["nodule", "mass"], "validation": {"detection/mAP_50": 0.25, **values}}
    path.write_text(json.dumps(content))
    tables = dict(make_card("frcnn_small").tables)
    assert tables["Validation, on which it was chosen"].columns == ["mAP_50"]
    each = tables["Validation, on which it was chosen, class by class"]
    assert (each.columns, each.rows) == (
        ["class", "mAP_50", "f1"],
        [["nodule", "0.250", "0.250"], ["mass", "0.250", "0.250"]],
    )
