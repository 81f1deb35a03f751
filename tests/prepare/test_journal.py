from dataclasses import replace

import pytest

from covidmm.errors import DataError
from covidmm.prepare.journal import Journal
from covidmm.prepare.pixels import Record

RECORD = Record(
    "s/a.png",
    "stamp",
    3,
    "0",
    1,
    1,
    2,
    2,
    "MONOCHROME2",
    None,
    "F",
    40,
    "DX",
    None,
    ("note",),
    "AAAA",
    "X",
    None,
    12,
    None,
)


def write_png(folder, record=RECORD):
    path = folder / "images" / record.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * record.png_size)
    return path


def test_remembers_across_runs(tmp_path):
    png = write_png(tmp_path)
    with Journal(tmp_path) as journal:
        assert not journal.done("s/a.png", "stamp")
        journal.add(RECORD)
    with Journal(tmp_path) as journal:
        assert journal.record("s/a.png") == RECORD
        assert journal.done("s/a.png", "stamp")
        assert not journal.done("s/a.png", "another stamp")
        png.write_bytes(b"xx")
        assert not journal.done("s/a.png", "stamp")
        png.unlink()
        assert not journal.done("s/a.png", "stamp")


@pytest.mark.parametrize(
    "tail", ["[" * 200_000 + "\n", '{"file_name": "s/b.p', '{"file_name": "s/b.png"}\n', "[]\n", "\x00\n"]
)
def test_a_torn_line_is_ignored_and_does_not_swallow_the_next(tmp_path, tail):
    with Journal(tmp_path) as journal:
        journal.add(RECORD)
    path = tmp_path / ".journal/images.jsonl"
    path.write_text(path.read_text() + tail)
    second = replace(RECORD, file_name="s/c.png")
    with Journal(tmp_path) as journal:
        assert journal.record("s/a.png") == RECORD
        for name in ("s/b.png", "s/b.p"):
            with pytest.raises(KeyError):
                journal.record(name)
        journal.add(second)
        assert journal.record("s/c.png") == second
    with Journal(tmp_path) as journal:
        assert (journal.record("s/a.png"), journal.record("s/c.png")) == (RECORD, second)
        journal.tidy()
    assert len(path.read_text().splitlines()) == 2


def test_forgetting_removes_the_png_for_good(tmp_path):
    png = write_png(tmp_path)
    with Journal(tmp_path) as journal:
        journal.add(RECORD)
        journal.forget("s/a.png")
        assert not journal.done("s/a.png", "stamp")
        journal.tidy()
    assert not png.exists()
    with Journal(tmp_path) as journal, pytest.raises(KeyError):
        journal.record("s/a.png")


def test_the_last_line_of_a_png_counts(tmp_path):
    newer = replace(RECORD, made_from="later")
    with Journal(tmp_path) as journal:
        journal.add(RECORD)
        journal.add(newer)
        journal.tidy()
    assert len((tmp_path / ".journal/images.jsonl").read_text().splitlines()) == 1
    with Journal(tmp_path) as journal:
        assert journal.record("s/a.png") == newer


def test_two_runs_cannot_write_one_folder(tmp_path):
    with Journal(tmp_path), pytest.raises(DataError, match="another prepare is writing"), Journal(tmp_path):
        pass


def test_a_journal_in_which_nothing_was_noted_leaves_no_folder(tmp_path):
    with Journal(tmp_path) as journal:
        journal.scratch.map()["a"] = 1
        assert (tmp_path / ".journal/scratch").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".journal").mkdir()
    (tmp_path / ".journal/layout").touch()
    with Journal(tmp_path):
        pass
    assert sorted(path.name for path in (tmp_path / ".journal").iterdir()) == ["images.jsonl", "layout", "lock"]
