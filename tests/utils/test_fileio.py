import json
import os
import resource

import pytest

from covidmm.utils.fileio import (
    append,
    json_bytes,
    json_value,
    naming,
    same_content,
    whole_file,
    write_bytes,
    write_if_changed,
)


def test_replaces_in_one_step(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def small_files():
    """The kernel ends every file of this process at 1,000 bytes: a write that goes over it is cut short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else_and_names_it(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(OSError, match="too large") as error:
        write_bytes(path, b"new" * 500)
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("small_files")
def test_a_write_that_was_cut_short_is_no_success(tmp_path):
    path = tmp_path / "journal"
    with path.open("ab", buffering=0) as file:
        append(file, path, b"x" * 999)
        with pytest.raises(OSError, match="too large") as error:
            append(file, path, b"yz\n")
        assert path.stat().st_size == 1000  # the kernel took one byte, and said so by its count alone
    assert error.value.filename == str(path)


def test_bytes_that_shall_last_are_on_the_drive_before_they_have_their_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((os.fstat(number).st_size, list(tmp_path.iterdir()))))
    write_bytes(tmp_path / "file", b"12345", durable=True)
    assert seen == [(5, [tmp_path / "file.tmp"])]


def test_an_error_that_names_a_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, naming(tmp_path):
        (tmp_path / "gone").read_bytes()
    assert error.value.filename == str(tmp_path / "gone")


def test_a_block_that_fails_leaves_no_file(tmp_path):
    def write():
        with whole_file(tmp_path / "file") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert not list(tmp_path.iterdir())


def test_an_unchanged_file_is_not_touched(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"same")
    os.utime(path, ns=(1, 1))
    write_if_changed(path, b"same")
    assert path.stat().st_mtime_ns == 1
    write_if_changed(path, b"other")
    assert path.read_bytes() == b"other"


def test_an_equal_file_is_not_touched_when_it_was_written_in_parts(tmp_path):
    path = tmp_path / "file"
    for content, touched in ((b"same", True), (b"same", False), (b"s@me", True), (b"longer", True)):
        with whole_file(path, keep_equal=True) as file:
            file.write(content[:2])
            file.write(content[2:])
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns != 1) == touched
        os.utime(path, ns=(1, 1))
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_same_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(3_000_000))
    assert not same_content(one, other)
    for content, same in ((bytes(3_000_000), True), (bytes(2_999_999) + b"x", False), (b"", False)):
        other.write_bytes(content)
        assert same_content(one, other) == same_content(other, one) == same


def test_json_is_read_back_and_refuses_nan():
    value = {"name": "Röntgen", "boxes": [[1.5, 2]]}
    data = json_bytes(value)
    assert json.loads(data) == value
    assert data == json_bytes(json.loads(data))
    with pytest.raises(ValueError, match="Out of range"):
        json_bytes(float("nan"))


def test_a_name_that_is_no_utf8_is_read_back():
    name = b"\xff\xfe.png".decode(errors="surrogateescape")
    assert json_value(json_bytes([name])) == [name]


@pytest.mark.parametrize("text", ["[" * 200_000, b"\xff", "{"])
def test_no_text_makes_reading_json_fail_in_another_way(text):
    with pytest.raises(ValueError, match=r".") as caught:
        json_value(text)
    assert not isinstance(caught.value, RecursionError)
