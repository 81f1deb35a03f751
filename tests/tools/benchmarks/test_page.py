"""The page of measurements."""

import json

import pytest
from benchmarks import evaluate
from benchmarks.measure import measure
from benchmarks.page import update_page

from covidmm.errors import DataError

PAGE = "# Title\n\n<!-- evaluate -->\n```text\nold\n```\n\n<!-- dicom -->\n```text\nkept\n```\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    report = measure("evaluate", images=5, boxes=5, repeats=1)
    (tmp_path / "evaluate.json").write_text(json.dumps(report))
    return tmp_path, report


def test_tables_go_where_the_page_names_them(folder):
    folder, report = folder
    assert update_page(folder / "page.md", folder) == ["evaluate"]
    text = (folder / "page.md").read_text()
    assert evaluate.format_report(report) in text
    assert f"python {report['machine']['python']}" in text
    assert "old" not in text
    assert text.endswith("<!-- dicom -->\n```text\nkept\n```\n")
    before = text
    update_page(folder / "page.md", folder)
    assert (folder / "page.md").read_text() == before


def test_a_page_without_places_a_folder_without_reports_and_a_foreign_report_are_refused(folder, tmp_path):
    folder, _ = folder
    with pytest.raises(DataError, match="no such page"):
        update_page(folder / "none.md", folder)
    (folder / "plain.md").write_text("# Title\n")
    with pytest.raises(DataError, match="has no place"):
        update_page(folder / "plain.md", folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no report"):
        update_page(folder / "page.md", folder / "empty")
    for content in ("{", "[]", '{"benchmark": "os", "machine": {}}'):
        (folder / "evaluate.json").write_text(content)
        with pytest.raises(DataError, match="no report of"):
            update_page(folder / "page.md", folder)
    assert (folder / "page.md").read_text() == PAGE
