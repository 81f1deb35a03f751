from collections import Counter

import pytest

from covidmm.prepare.layouts.rsna import CLASS_CSV, LABEL_CSV, read_classes, read_folder, read_patients
from covidmm.prepare.options import Options

HEADER = ["patientId", "x", "y", "width", "height", "Target"]


def patients_of(tmp_path, make, *rows):
    make.csv(tmp_path / LABEL_CSV, [HEADER, *rows])
    return read_patients(tmp_path / LABEL_CSV)


def test_one_row_per_box(tmp_path, make):
    table = patients_of(tmp_path, make, ["a", 1, 2, 3, 4, 1], ["b", "", "", "", "", 0], ["a", 5, 6, 7, 8, 1])
    assert table.rows == {"a": ((1, 2, 3, 4), (5, 6, 7, 8)), "b": ()}


@pytest.mark.parametrize(
    ("row", "field", "cause"),
    [
        (["", 1, 2, 3, 4, 1], "patientId", "is empty"),
        (["a", 1, 2, 3, 4, 2], "Target", "expected 0 or 1, got '2'"),
        (["a", 1, 2, 3, 4, 0], "Target", "yet the row has a box"),
        (["a", "", 2, 3, 4, 1], "x", "could not convert"),
        (["a", 1, 2, "nan", 4, 1], "width", "not finite"),
        (["good", "", "", "", "", 0], "Target", "differs between the rows"),
    ],
)
def test_a_bad_row_takes_its_patient_with_it(tmp_path, make, row, field, cause):
    table = patients_of(tmp_path, make, ["good", 1, 2, 3, 4, 1], ["fine", 1, 2, 3, 4, 1], row)
    assert row[0] not in table.rows
    assert "fine" in table.rows
    assert table.issues[0].field.startswith(f"{field} (line 4")
    assert cause in table.issues[0].cause


def test_unknown_and_contradictory_classes(tmp_path, make):
    rows = [["patientId", "class"], ["a", "Normal"], ["b", "Odd"], ["c", "Normal"], ["c", "Lung Opacity"]]
    make.csv(tmp_path / CLASS_CSV, rows)
    table = read_classes(tmp_path / CLASS_CSV)
    assert table.rows == {"a": "Normal"}
    assert [issue.cause.split(",")[0] for issue in table.issues] == [
        "unknown class 'Odd'",
        "'Lung Opacity' contradicts 'Normal' above",
    ]


def test_only_positives_unless_asked(tmp_path, make):
    raw = make.rsna(tmp_path, patients=10)
    positives = read_folder(raw, Options())
    assert list(positives.samples) == [f"patient00{n}" for n in (1, 3, 5, 7, 9)]
    assert list(positives.left_out.values()) == [5]
    assert not positives.skipped
    everything = read_folder(raw, Options(negatives=True))
    assert len(everything.samples) == 10
    assert everything.samples["patient000"].classes == ("No Lung Opacity / Not Normal",)
    assert not everything.left_out


def test_works_without_the_class_table(tmp_path, make):
    raw = make.rsna(tmp_path, patients=4)
    (raw / CLASS_CSV).unlink()
    samples = read_folder(raw, Options(negatives=True)).samples
    assert [sample.classes[0] for sample in samples.values()] == ["No Lung Opacity", "Lung Opacity"] * 2


def test_what_does_not_match_is_listed(tmp_path, make):
    raw = make.rsna(tmp_path, patients=6)
    (raw / "stage_2_train_images/patient001.dcm").rename(raw / "stage_2_train_images/stranger.dcm")
    folder = read_folder(raw, Options())
    assert list(folder.samples) == ["patient003", "patient005"]
    assert sorted(folder.skipped) == [
        ("stage_2_train_images/stranger.dcm", "patientId", f"no row in {LABEL_CSV}"),
        (LABEL_CSV, "patientId 'patient001'", "no such file in stage_2_train_images/"),
    ]


@pytest.mark.realdata
def test_the_full_tables_parse_to_the_published_counts(realdata):
    patients = read_patients(realdata / "labels/rsna" / LABEL_CSV)
    classes = read_classes(realdata / "labels/rsna" / CLASS_CSV)
    assert patients.issues == classes.issues == []
    assert len(patients.rows) == len(classes.rows) == 26_684
    boxes = [len(boxes) for boxes in patients.rows.values()]
    assert (sum(boxes), sum(map(bool, boxes))) == (9555, 6012)
    assert sum(boxes) + boxes.count(0) == 30_227
    assert Counter(classes.rows.values()) == {
        "Normal": 8851,
        "No Lung Opacity / Not Normal": 11_821,
        "Lung Opacity": 6012,
    }
