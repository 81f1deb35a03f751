import gzip
from collections import Counter

import pytest

from covidmm.errors import DataError
from covidmm.prepare.layouts.nih import BOXED, FINDINGS, read_entries, read_folder, read_lists
from covidmm.prepare.options import Options

# From Wang et al. (2017) and the publisher's table.
COUNTS = {
    "Hernia": 227,
    "Pneumonia": 1431,
    "Fibrosis": 1686,
    "Edema": 2303,
    "Emphysema": 2516,
    "Cardiomegaly": 2776,
    "Pleural_Thickening": 3385,
    "Consolidation": 4667,
    "Pneumothorax": 5302,
    "Mass": 5782,
    "Nodule": 6331,
    "Atelectasis": 11559,
    "Effusion": 13317,
    "Infiltration": 19894,
    "No Finding": 60361,
}


def entries_of(tmp_path, make, *rows):
    make.csv(tmp_path / "Data_Entry_2017.csv", [make.nih_header, *rows])
    return read_entries(tmp_path / "Data_Entry_2017.csv")


def test_the_order_of_findings_is_frozen():
    assert len(FINDINGS) == 15
    assert sorted(FINDINGS[:-1]) == list(FINDINGS[:-1])
    assert FINDINGS[-1] == "No Finding"


@pytest.mark.parametrize(
    ("age", "years"), [("58", 58), ("058Y", 58), ("013M", 1), ("020D", 0), ("", None), ("x", None)]
)
def test_reads_both_editions(tmp_path, make, age, years):
    table = entries_of(tmp_path, make, ["a.png", "Effusion|Atelectasis", 0, 1, age, "F"])
    assert table.rows["a.png"] == (("Atelectasis", "Effusion"), "1", years, "F", None)


@pytest.mark.parametrize(
    ("row", "field", "cause"),
    [
        (["", "Mass", 0, 1, 5, "F"], "Image Index", "is empty"),
        (["_b.png", "Mass", 0, 1, 5, "F"], "Image Index", "begins with '_'"),
        (["a.png", "Mass", 0, 1, 5, "F"], "Image Index", "a second row"),
        (["b.png", "Mass|ConsolidationEdema", 0, 1, 5, "F"], "Finding Labels", "'ConsolidationEdema'"),
        (["b.png", "", 0, 1, 5, "F"], "Finding Labels", "unknown finding ''"),
        (["b.png", "Mass|No Finding", 0, 1, 5, "F"], "Finding Labels", "'No Finding' beside"),
        (["b.png", "Mass", 0, "", 5, "F"], "Patient ID", "is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, make, row, field, cause):
    table = entries_of(tmp_path, make, ["a.png", "Mass", 0, 1, 5, "F"], row)
    assert row[0] not in table.rows
    assert table.issues[0].field == f"{field} (line 3, id {row[0]!r})"
    assert cause in table.issues[0].cause


def test_joins_several_image_folders(tmp_path, make):
    folder = read_folder(make.nih(tmp_path, patients=4), Options())
    assert len(folder.samples) == 8
    assert not folder.skipped
    assert folder.samples["00000001_000"].extra == {"labels": ["Hernia"], "age": 58, "sex": "F", "view": "PA"}
    assert {sample.official for sample in folder.samples.values()} == {None}


@pytest.mark.parametrize("name", ["_x.png", "__x.png", "_.png"])
def test_no_name_leads_out_of_the_output_folder(tmp_path, make, name):
    raw = make.nih(tmp_path, patients=1)
    image = next(raw.rglob("*.png"))
    image.with_name(name).write_bytes(image.read_bytes())
    with (raw / "Data_Entry_2017.csv").open("a") as table:
        table.write(f"{name},No Finding,0,1,58,F\n")
    folder = read_folder(raw, Options())
    images = tmp_path / "out/images"
    assert folder.samples
    assert all((images / sample.file_name).resolve().is_relative_to(images) for sample in folder.samples.values())
    assert [name in issue.field for issue in folder.skipped] == [True]


def test_reads_a_gzipped_table(tmp_path, make):
    raw = make.nih(tmp_path, patients=2)
    plain = raw / "Data_Entry_2017.csv"
    (raw / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert len(read_folder(raw, Options()).samples) == 4


def test_official_lists_are_honoured(tmp_path, make):
    raw = make.nih(tmp_path, patients=6, lists=True)
    (raw / "train_val_list.txt").write_text((raw / "train_val_list.txt").read_text().replace("00000006_001.png", ""))
    folder = read_folder(raw, Options())
    assert Counter(sample.official for sample in folder.samples.values()) == {"test": 8, "train_val": 3}
    (issue,) = folder.skipped
    assert issue.cause == "in neither train_val_list.txt nor test_list.txt"


def test_lists_must_be_two_and_disjoint(tmp_path, make):
    raw = make.nih(tmp_path, patients=6, lists=True)
    both = (raw / "test_list.txt").read_text()
    (raw / "train_val_list.txt").write_text(both)
    with pytest.raises(DataError, match=r"'00000001_000\.png' is in both lists"):
        read_lists(raw)
    (raw / "train_val_list.txt").unlink()
    with pytest.raises(DataError, match=r"train_val_list.txt: missing, though test_list.txt is there"):
        read_lists(raw)


def test_what_does_not_match_is_listed(tmp_path, make):
    raw = make.nih(tmp_path, patients=2)
    images = raw / "images_001/images"
    (images / "00000001_000.png").rename(images / "stranger.png")
    (images / "00000001_001.png").write_bytes(b"")
    folder = read_folder(raw, Options())
    assert len(folder.samples) == 3
    assert [(issue.field, issue.cause) for issue in sorted(folder.skipped)] == [
        ("Image Index '00000001_000.png'", "no such file below images*/"),
        ("Image Index", "no row in Data_Entry_2017.csv"),
        ("Image Index", "a second file of this name, images_001/images/00000001_001.png is used"),
    ]


def test_of_two_files_of_one_image_the_first_counts(tmp_path, make):
    raw = make.nih(tmp_path, patients=1)
    image = raw / "images_001/images/00000001_000.png"
    image.with_suffix(".PNG").write_bytes(image.read_bytes())
    with (raw / "Data_Entry_2017.csv").open("a") as table:
        table.write("00000001_000.PNG,No Finding,0,1,58,F\n")
    folder = read_folder(raw, Options())
    assert len(folder.samples) == 2
    assert [issue.file for issue in folder.skipped] == ["images_001/images/00000001_000.png"]


def test_no_images_at_all(tmp_path, make):
    make.csv(tmp_path / "Data_Entry_2017.csv", [make.nih_header])
    with pytest.raises(DataError, match=r"no folder images\*/"):
        read_folder(tmp_path, Options())
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no \.png file in it"):
        read_folder(tmp_path, Options())


@pytest.mark.realdata
def test_the_full_table_parses_to_the_published_counts(realdata):
    table = read_entries(realdata / "labels/nih/Data_Entry_2017.csv.gz")
    assert table.issues == []
    assert len(table.rows) == 112_120
    assert len({entry.patient for entry in table.rows.values()}) == 30_805
    assert Counter(name for entry in table.rows.values() for name in entry.findings) == COUNTS
    assert sum(COUNTS.values()) == 141_537


BOX_HEADER = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]


def boxed_folder(tmp_path, make, *rows):
    """Three images: two findings, one finding without a box, none."""
    for name in ("1_a", "2_b", "3_c"):
        make.png(tmp_path / "images" / f"{name}.png")
    findings = {"1_a.png": "Infiltration|Mass", "2_b.png": "Edema", "3_c.png": "No Finding"}
    table = [[name, found, 0, number, 50, "F"] for number, (name, found) in enumerate(findings.items())]
    make.csv(tmp_path / "Data_Entry_2017.csv", [make.nih_header, *table])
    make.csv(tmp_path / "BBox_List_2017.csv", [BOX_HEADER, *rows])
    return tmp_path


def test_boxes_of_eight_findings(tmp_path, make):
    raw = boxed_folder(tmp_path, make, ["1_a.png", "Infiltrate", 1.5, 2, 30, 40], ["1_a.png", "Mass", 5, 6, 7, 8])
    found = read_folder(raw, Options(boxes=True))
    (sample,) = found.samples.values()
    assert found.categories == BOXED
    assert all(box.shares for box in sample.boxes)
    assert [(BOXED[box.label], [1024 * value for value in box.box]) for box in sample.boxes] == [
        ("Infiltration", [1.5, 2, 30, 40]),
        ("Mass", [5, 6, 7, 8]),
    ]
    assert sample.classes == ("Infiltration", "Mass")
    assert found.left_out == {
        "with findings that nobody drew boxes around": 1,
        "without a finding (--negatives keeps them)": 1,
    }
    more = read_folder(raw, Options(boxes=True, negatives=True))
    assert [sample.classes for sample in more.samples.values()] == [("Infiltration", "Mass"), ("No Finding",)]


@pytest.mark.parametrize(
    ("row", "field", "cause"),
    [
        (["1_a.png", "Hernia", 1, 2, 3, 4], "Finding Label (line 2", "unknown finding 'Hernia'"),
        (["1_a.png", "Mass", "x", 2, 3, 4], "Bbox [x (line 2", "could not convert"),
        (["1_a.png", "Mass", 0.1, 0.2, 0.3, 0.4], "box (line 2", "got shares of the image"),
        (["1_a.png", "Mass", 1, 2, -3, 4], "w (line 2", "is no length"),
        (["gone.png", "Mass", 1, 2, 3, 4], "Image Index 'gone.png'", "no usable image of this name"),
    ],
)
def test_a_bad_box_is_listed_and_its_image_is_no_negative(tmp_path, make, row, field, cause):
    found = read_folder(boxed_folder(tmp_path, make, row), Options(boxes=True, negatives=True))
    (issue,) = found.skipped
    assert issue.field.startswith(field)
    assert cause in issue.cause
    assert [sample.classes for sample in found.samples.values()] == [("No Finding",)]
