import json

import cv2
import numpy as np
import pytest
import torch

from covidmm.audit.audit_files import summary_text, write_audit
from covidmm.audit.checks import Check, Level, Table
from covidmm.errors import DataError


@pytest.fixture
def checks():
    table = Table("pairs of a/b", ("name", "value"), [("=1+1", -1), ("<script>alert(1)</script>", None)])
    numbers = {"a": float("nan"), "b": 1 / 3, "c": [1, (2.0,)]}
    return [
        Check("splits", Level.OK, "fine", "Explains."),
        Check("labels", Level.FAULT, "2 <b>", "Why it matters.", numbers, (table,)),
    ]


def test_files_are_complete_and_stable(tmp_path, checks):
    write_audit(tmp_path / "out", [tmp_path], checks)
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(first) == ["audit.html", "audit.json", "pairs_of_a_b.csv"]
    write_audit(tmp_path / "out", [tmp_path], checks)
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    content = json.loads(first["audit.json"])
    assert content["level"] == "FAULT"
    assert content["checks"]["labels"]["numbers"] == {"a": None, "b": 0.333333, "c": [1, [2.0]]}
    assert content["checks"]["labels"]["files"] == ["pairs_of_a_b.csv"]


def test_tables_of_an_earlier_audit_go_and_other_files_stay(tmp_path, checks):
    write_audit(tmp_path, [tmp_path], checks)
    (tmp_path / "mine.csv").write_text("kept")
    stored = json.loads((tmp_path / "audit.json").read_text())
    stored["checks"]["labels"]["files"].append("../mine.csv")
    (tmp_path / "audit.json").write_text(json.dumps(stored))
    write_audit(tmp_path, [tmp_path], checks[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "audit.json", "mine.csv"]


def test_the_page_holds_its_pictures_and_runs_nothing_of_the_data(tmp_path, checks):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 30), 90, np.uint8))
    checks.append(Check("duplicates", Level.WARNING, "1 pair", "Why."))
    pair = ("<i>one</i>", tmp_path / "a.png", "other", tmp_path / "a.png")
    write_audit(tmp_path / "out", [tmp_path], checks, [pair])
    page = (tmp_path / "out" / "audit.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "<script" not in page
    assert "<i>one" not in page
    assert "http" not in page
    assert "not a medical device" in page
    assert f"torch {torch.__version__.partition('+')[0]}" in page


def test_the_summary_has_a_line_per_check_and_explains_what_is_not_ok(checks):
    lines = summary_text(checks).splitlines()
    assert lines[:2] == ["ok       splits  fine", "FAULT    labels  2 <b>"]
    assert lines[-1] == "Why it matters."
    assert "Explains." not in lines


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, checks):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        write_audit(tmp_path / "out", [tmp_path], checks)
