import json
import sys

import pytest

from covidmm.errors import ConfigError, DataError
from covidmm.prepare.layouts.table import read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

HEADER = ["image", "class", "x1", "y1", "x2", "y2"]
BOX = [4, 6, 14.5, 26]


def write(tmp_path, make, rows, images=("a.png", "b.png")):
    for seed, name in enumerate(images):
        make.png(tmp_path / name, seed)
    make.csv(tmp_path / "labels.csv", rows)
    return tmp_path


def folder_of(tmp_path, make, *rows, header=HEADER, images=("a.png", "b.png"), **options):
    return read_folder(write(tmp_path, make, [header, *rows], images), Options(**options))


def boxes_of(folder):
    return {
        name: [(folder.categories[one.label], one.box) for one in sample.boxes]
        for name, sample in folder.samples.items()
    }


def test_a_row_is_a_box_and_one_without_is_a_label_of_the_image(tmp_path, make):
    rows = [
        ["a.png", "opacity", *BOX],
        ["a", "nodule", 1, 2, 3, 4],
        ["a.png", "nodule", 1, 2, 3, 4],
        ["b.png", "No finding", "", "", "", ""],
    ]
    folder = folder_of(tmp_path, make, rows[0], *rows[2:])
    assert boxes_of(folder) == {"a": [("opacity", (4, 6, 10.5, 20)), ("nodule", (1, 2, 2, 2))], "b": []}
    assert folder.categories == ("nodule", "opacity")
    assert folder.samples["b"].classes == ("No finding",)
    assert folder.samples["b"].extra == {}
    assert not folder.skipped


@pytest.mark.parametrize(
    ("form", "values"),
    [("x1,y1,x2,y2", (4, 6, 14, 26)), ("x,y,w,h", (4, 6, 10, 20)), ("cx,cy,w,h", (9, 16, 10, 20))],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_boxes_of_every_form(tmp_path, make, form, values, normalised):
    sides = (47, 61, 47, 61) if normalised else (1, 1, 1, 1)
    make.png(tmp_path / "raw/a.png", 0, 61, 47)
    row = ["a.png", "x", *(value / side for value, side in zip(values, sides, strict=True))]
    make.csv(tmp_path / "raw/labels.csv", [["image", "class", *form.split(",")], row])
    options = Options(workers=1, progress=False, normalised=normalised, split="train")
    assert prepare("table", tmp_path / "raw", tmp_path / "out", options).skipped.total == 0
    (one,) = json.loads((tmp_path / "out/annotations/train.json").read_text())["annotations"]
    assert one["bbox"] == pytest.approx([4, 6, 10, 20], abs=1e-3)
    assert json.loads((tmp_path / "out/prepared.json").read_text())["options"]["normalised"] == normalised


def test_columns_are_named(tmp_path, make):
    header = ["image_id", "x_min", "y_min", "x_max", "y_max", "class_name", "who", "class", "fold"]
    row = ["ü", *BOX, "opacity", "p1", "other", "valid"]
    named = "image=image_id,x1=x_min, y1=y_min,x2=x_max,y2=y_max,class=class_name,patient=who,split=fold"
    folder = folder_of(
        tmp_path,
        make,
        row,
        ["b", *BOX, "opacity", "p2", "", "TRAIN"],
        header=header,
        images=("ü.png", "b.png"),
        columns=named,
    )
    assert boxes_of(folder)["ü"] == [("opacity", (4, 6, 10.5, 20))]
    assert [(one.patient, one.official) for one in folder.samples.values()] == [("p2", "train"), ("p1", "val")]


def test_further_columns(tmp_path, make):
    header = [*HEADER, "crowd", "study", "image_width", "image_height"]
    folder = folder_of(tmp_path, make, ["a.png", "x", *BOX, "1", "s1", "48", "60.0"], header=header)
    sample = folder.samples["a"]
    assert (sample.boxes[0].crowd, sample.study_id, sample.size) == (True, "s1", (60, 48))


def test_labels_of_whole_images(tmp_path, make):
    folder = folder_of(tmp_path, make, ["a.png", "Mass"], ["a.png", "Edema"], ["b.png", ""], header=["image", "class"])
    assert folder.categories == ("Edema", "Mass")
    assert folder.samples["a"].extra == {"labels": ["Mass", "Edema"]}
    assert (folder.samples["b"].extra, folder.samples["b"].classes) == ({}, ("none of them",))


@pytest.mark.parametrize(
    ("row", "field", "cause"),
    [
        (["", "x", *BOX], "image", "is empty"),
        (["a.png", "", *BOX], "class", "is empty, though the row has a box"),
        (["a.png", "x", 14, 6, 4, 26], "x2", "4 is below x1, 14"),
        (["a.png", "x", 4, 26, 14, 6], "y2", "6 is below y1, 26"),
        (["a.png", "x", 4, 6, 14, ""], "y2", "could not convert"),
        (["a.png", "x", 4, 6, 14, "nan"], "y2", "not finite"),
        (["a.png", "x", 0.1, 0.2, 0.3, 0.4], "box", "expected pixels, got shares"),
        (["a.png", "x", 4, 6, 1e10, 8], "box", "expected pixels"),
    ],
)
def test_an_image_with_a_bad_row_is_not_used(tmp_path, make, row, field, cause):
    folder = folder_of(tmp_path, make, ["a.png", "x", *BOX], ["b.png", "x", *BOX], row)
    assert list(folder.samples) == (["b"] if row[0] else ["a", "b"])
    (issue,) = folder.skipped
    assert issue[:2] == ("labels.csv", f"{field} (line 4, id {row[0]!r})")
    assert cause in issue.cause
    assert not folder.left_out


def test_pixels_among_shares_are_refused(tmp_path, make):
    rows = ["a.png", "x", 0.1, 0.1, 0.2, 0.2], ["a.png", "x", *BOX], ["b.png", "x", 0.1, 0.1, 0.2, 1]
    folder = folder_of(tmp_path, make, *rows, normalised=True)
    assert list(folder.samples) == ["b"]
    assert folder.skipped[0].field == "box (line 3, id 'a.png')"


@pytest.mark.parametrize(
    ("column", "values", "cause"),
    [
        ("image_width", ["48", "96"], "'96' contradicts '48' in line 2"),
        ("patient", ["p", "q"], "'q' contradicts 'p'"),
        ("split", ["train", "test"], "'test' contradicts 'train'"),
        ("split", ["fold 3", "fold 3"], "expected train, val, test or trainval, got 'fold 3'"),
        ("crowd", ["0", "maybe"], "expected 0 or 1, got 'maybe'"),
        ("image_height", ["tall", "tall"], "could not convert"),
    ],
)
def test_rows_of_an_image_must_agree(tmp_path, make, column, values, cause):
    rows = [["a.png", "x", *BOX, value] for value in values]
    folder = folder_of(tmp_path, make, *rows, header=[*HEADER, column])
    assert not folder.samples
    (issue,) = folder.skipped
    assert issue.field.startswith(f"{column} (line ")
    assert cause in issue.cause


def test_two_names_of_one_image_must_agree_too(tmp_path, make):
    folder = folder_of(tmp_path, make, ["a.png", "x", *BOX], ["a", "x", 1, 2, 3, 4])
    assert not folder.samples
    assert "has other boxes" in folder.skipped[0].cause


def test_a_class_without_its_boxes_is_no_negative(tmp_path, make):
    folder = folder_of(tmp_path, make, ["a.png", "x", *BOX], ["b.png", "x", "", "", "", ""])
    assert list(folder.samples) == ["a"]
    (issue,) = folder.skipped
    assert issue.cause == "'x' has boxes in other rows, and none in one of this image"
    assert not folder.left_out, "it is listed already"


def test_a_label_for_a_missing_image_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, ["a.png", "x", *BOX], ["c.png", "x", *BOX])
    assert [issue[:2] for issue in folder.skipped] == [("labels.csv", "file_name (line 3, id 'c.png')")]
    assert [why.split(",")[0] for why in folder.left_out] == ["that no label names"]


@pytest.mark.parametrize(
    ("columns", "cause"),
    [
        ("image", "expected what=column"),
        ("image=", "expected what=column"),
        ("picture=image", "unknown 'picture', expected one of image, class, x1"),
        ("image=a,image=b", "'image' is named twice"),
    ],
)
def test_columns_that_cannot_be_understood_are_an_error(tmp_path, make, columns, cause):
    with pytest.raises(ConfigError, match=cause):
        folder_of(tmp_path, make, ["a.png", "x", *BOX], columns=columns)


@pytest.mark.parametrize(
    ("header", "options", "cause"),
    [
        (HEADER[1:], {}, "has no column 'image'"),
        (["image", *HEADER[2:]], {}, "has no column 'class'"),
        (HEADER[:-1], {}, "has x1,y1,x2, which is no whole box; expected x1,y1,x2,y2, or x,y,w,h"),
        (HEADER, {"columns": "patient=pid"}, "has no column 'pid'"),
        (HEADER, {"table": "other.csv"}, r"other\.csv: no such file"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path, make, header, options, cause):
    with pytest.raises(DataError, match=cause):
        folder_of(tmp_path, make, ["a.png", "x", *BOX][: len(header)], header=header, **options)


def test_a_row_of_other_fields_is_an_error(tmp_path, make):
    with pytest.raises(DataError, match=r"labels\.csv: line 2: 7 fields, the header has 6"):
        folder_of(tmp_path, make, ["a.png", *BOX, "Nodule", " mass"], header=["image", *HEADER[2:], "class"])


def test_a_uid_is_not_taken_for_a_shorter_one(tmp_path, make):
    folder = folder_of(tmp_path, make, ["1.2", "x", *BOX], ["1.2.3", "x", *BOX], images=("1.2.png",))
    assert [issue.field for issue in folder.skipped] == ["file_name (line 3, id '1.2.3')"]
    assert list(folder.samples) == ["1.2"]


def test_one_table_is_needed(tmp_path, make):
    row = ["a.png", "x", *BOX]
    write(tmp_path, make, [HEADER, row])
    make.csv(tmp_path / "deep/other.csv", [HEADER, [*row[:2], 1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"several tables, deep/other\.csv, labels\.csv; name one by --table"):
        read_folder(tmp_path, Options())
    folder = read_folder(tmp_path, Options(table="deep/other.csv"))
    assert boxes_of(folder) == {"a": [("x", (1, 2, 2, 2))]}
    for path in tmp_path.rglob("*.csv"):
        path.unlink()
    with pytest.raises(DataError, match=r"no \.csv or \.parquet file in it"):
        read_folder(tmp_path, Options())


def test_an_empty_table_and_classes_of_like_names_are_errors(tmp_path, make):
    with pytest.raises(DataError, match="has no row"):
        folder_of(tmp_path, make)
    with pytest.raises(DataError, match="two classes are called 'X' and 'x'"):
        folder_of(tmp_path, make, ["a.png", "x", *BOX], ["b.png", "X", *BOX])


def test_parquet_is_prepared_to_the_same_bytes_as_csv(tmp_path, make):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    rows = {
        "image": ["a", "b", "b"],
        "class": ["mass", None, "nodule"],
        "x1": [2.5, float("nan"), 3.0],
        "y1": [3, None, 4],
        "x2": [20.25, None, 30.0],
        "y2": [30, None, 24],
        "crowd": [True, None, False],
        "patient": [7, 8, 8],
    }
    rows = {name: values[:1] + values[2:] for name, values in rows.items()}
    prepared = []
    for kind in ("csv", "parquet"):
        raw, out = tmp_path / kind, tmp_path / f"{kind}_out"
        for seed, name in enumerate("ab"):
            make.png(raw / "images" / f"{name}.png", seed)
        if kind == "parquet":
            import pyarrow

            parquet.write_table(pyarrow.table(rows), raw / "labels.parquet")
        else:
            lines = [",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))]
            (raw / "labels.csv").write_text("\n".join(lines).replace("True", "true").replace("False", "false"))
        prepare("table", raw, out, Options(workers=1, progress=False))
        prepared.append({p.relative_to(out): p.read_bytes() for p in (out / "annotations").iterdir()})
    assert prepared[0] == prepared[1]
    assert b"mass" in b"".join(prepared[0].values())


def test_a_damaged_parquet_file_and_one_without_pyarrow_are_one_line(tmp_path, make, monkeypatch):
    make.png(tmp_path / "a.png", 0)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and nothing else")
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    with pytest.raises(DataError, match=r"labels\.parquet: cannot be read as Parquet: ") as error:
        read_folder(tmp_path, Options())
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'covidmm\[parquet\]'"):
        read_folder(tmp_path, Options())
