import gzip
import os

import pytest

from covidmm.errors import DataError
from covidmm.prepare.label_files import Table, count_others, find_files, join_files, number, read_rows
from covidmm.prepare.samples import Sample
from tests.corpus.valid import dataset, saved


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_reads_rows_with_their_lines(tmp_path, name):
    text = '\ufeffid, boxes \na,1\nb,"x\ny"\nc\n'.encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    rows = list(read_rows(tmp_path / name, ("id", "boxes")))
    assert rows == [
        (2, {"id": "a", "boxes": "1"}),
        (4, {"id": "b", "boxes": "x\ny"}),
        (5, {"id": "c", "boxes": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"id,label\n1,2\n", "has no column 'boxes'"),
        (b"id,boxes\n\xff\xfe,1\n", "is not UTF-8"),
        (b'id,boxes\n"a"b,1\n', "is not CSV"),
    ],
)
def test_a_bad_table_is_one_line_that_names_it(tmp_path, content, cause):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=cause) as caught:
        list(read_rows(path, ("id", "boxes")))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_gzip_is_one_line(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"id,boxes\n" + os.urandom(1000).hex().encode())[:300])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(path, ("id",)))


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999"])
def test_number_refuses(text):
    with pytest.raises(ValueError, match=r".+"):
        number(text)


def test_refusing_a_row_takes_its_twin_too():
    table: Table[int] = Table("t.csv", rows={"a": 1, "b": 2})
    with table.reading("a", 7):
        raise ValueError("label: is odd: very")
    with table.reading("b", 8):
        pass
    assert table.rows == {"b": 2}
    assert ("a" in table, "b" in table, "c" in table) == (True, True, False)
    assert table.issues == [("t.csv", "label (line 7, id 'a')", "is odd: very")]


def test_finds_files_of_any_case_and_follows_no_link_to_a_folder(tmp_path):
    for name in ("b/2.dcm", "a/1.DCM", "a/.hidden.dcm", "a/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "b/3.dcm").symlink_to(tmp_path / "b/2.dcm")
    issues = []
    found = find_files(tmp_path, ".dcm", issues)
    assert found == [tmp_path / "a/1.DCM", tmp_path / "b/2.dcm", tmp_path / "b/3.dcm"]
    assert issues == []


def test_dicom_is_found_under_any_name_and_the_rest_is_counted(tmp_path):
    (tmp_path / "1.2.840.77").write_bytes(saved(dataset("one")))
    (tmp_path / "two.dcm").touch()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.dcm").touch()
    others = []
    assert find_files(tmp_path, ".dcm", [], others) == [tmp_path / "1.2.840.77", tmp_path / "two.dcm"]
    assert count_others(others) == {f"that are no images of the data set, such as {tmp_path / '.hidden.dcm'}": 2}
    assert count_others([]) == {}


@pytest.mark.usefixtures("_locked")
def test_an_unreadable_folder_is_listed(tmp_path):
    for name in ("locked/1.dcm", "open/2.dcm"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    issues = []
    assert find_files(tmp_path, ".dcm", issues) == [tmp_path / "open/2.dcm"]
    assert issues == [(str(tmp_path / "locked"), "folder", "Permission denied")]


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no \.dcm file in it"):
        find_files(tmp_path, ".dcm", [])
    with pytest.raises(DataError, match="No such file"):
        find_files(tmp_path / "missing", ".dcm", [])


@pytest.mark.parametrize(("row", "fields"), [("a", 1), ("a,b,c", 3), ("a,b,c,d", 4)])
def test_a_row_of_another_length_is_named_where_rows_must_be_whole(tmp_path, row, fields):
    path = tmp_path / "table.csv"
    path.write_text(f"id,boxes\n1,2\n{row}\n")
    assert len(list(read_rows(path, ("id",)))) == 2
    with pytest.raises(DataError, match=rf"table.csv: line 3: {fields} fields, the header has 2"):
        list(read_rows(path, ("id",), whole=True))


def test_files_are_joined_with_their_rows(tmp_path):
    skipped = []

    def sample_of(path, earlier):
        if path.stem == "left_out":
            return None
        if earlier:
            raise ValueError(f"id: {earlier.source.name} is used")
        if path.stem == "odd":
            raise ValueError("shape: expected 2: got 3")
        return Sample(path.stem, path, f"{path.stem}.png", "study", ())

    files = [tmp_path / name for name in ("b.dcm", "a/x.dcm", "b.DCM", "left_out.dcm", "a/odd.dcm")]
    samples = join_files(tmp_path, files, sample_of, skipped)
    assert list(samples) == ["b", "x"]
    assert samples["b"].source == files[0]
    assert skipped == [("b.DCM", "id", "b.dcm is used"), ("a/odd.dcm", "shape", "expected 2: got 3")]
