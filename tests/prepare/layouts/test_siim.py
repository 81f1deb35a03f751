from collections import Counter

import pytest

from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV, read_folder, read_images, read_studies
from covidmm.prepare.options import Options

BOX = "[{'x': 1.0, 'y': 2.0, 'width': 3.0, 'height': 4.0}]"
LABEL = "opacity 1 1.0 2.0 4.0 6.0"
IMAGE_HEADER = ["id", "boxes", "label", "StudyInstanceUID"]


def images_of(tmp_path, make, *rows):
    make.csv(tmp_path / IMAGE_CSV, [IMAGE_HEADER, *rows])
    return read_images(tmp_path / IMAGE_CSV)


def test_reads_boxes(tmp_path, make):
    table = images_of(tmp_path, make, ["a_image", BOX, LABEL, "s"], ["b_image", "", "none 1 0 0 1 1", "s"])
    assert table.rows == {"a": ("s", ((1.0, 2.0, 3.0, 4.0),)), "b": ("s", ())}
    assert table.issues == []


@pytest.mark.parametrize(
    ("row", "field", "cause"),
    [
        (["a", BOX, LABEL, "s"], "id", "expected <image>_image"),
        (["a_image", BOX, LABEL, ""], "StudyInstanceUID", "is empty"),
        (["a_image", "[{'x': 1", LABEL, "s"], "boxes", "not a list"),
        (["a_image", "__import__('os')", LABEL, "s"], "boxes", "not a list"),
        (["a_image", "{'x': 1}", LABEL, "s"], "boxes", "not a list"),
        (["a_image", "[" * 5000, LABEL, "s"], "boxes", "not a list"),
        (["a_image", "[{'x': 1, 'y': 2, 'width': 3}]", LABEL, "s"], "boxes[0]", "has no 'height'"),
        (["a_image", BOX.replace("3.0", "'wide'"), LABEL, "s"], "boxes[0]", "wide"),
        (["a_image", BOX.replace("3.0", "1e999"), LABEL, "s"], "boxes[0]", "not finite"),
        (["a_image", BOX, "opacity 1 1.0", "s"], "label", "groups of six"),
        (["a_image", BOX, "", "s"], "label", "groups of six"),
        (["a_image", BOX, LABEL.replace("opacity", "nodule"), "s"], "label", "unknown name 'nodule'"),
        (["a_image", BOX, "none 1 0 0 1 1", "s"], "label", "names 0 opacities where the column boxes has 1"),
        (["a_image", BOX, LABEL.replace("6.0", "7.0"), "s"], "label", "disagrees with the column boxes"),
    ],
)
def test_a_bad_image_row_is_named_with_line_id_and_field(tmp_path, make, row, field, cause):
    table = images_of(tmp_path, make, ["good_image", BOX, LABEL, "s"], row)
    assert set(table.rows) == {"good"}
    ((file, where, why),) = table.issues
    assert file == IMAGE_CSV
    assert where.startswith(field + " (line 3, id 'a")
    assert cause in why


def test_of_two_rows_for_one_image_neither_counts(tmp_path, make):
    table = images_of(tmp_path, make, ["a_image", BOX, LABEL, "s"], ["a_image", "", "none 1 0 0 1 1", "s"])
    assert table.rows == {}
    assert len(table.issues) == 1


@pytest.mark.parametrize("flags", ["0,0,0,0", "1,1,0,0", "0,2,0,0", "0,,0,0", "0,x,0,1"])
def test_a_study_that_is_not_one_class_is_refused(tmp_path, make, flags):
    rows = [make.study_header, ["good_study", 0, 1, 0, 0], ["bad_study", *flags.split(",")]]
    make.csv(tmp_path / STUDY_CSV, rows)
    table = read_studies(tmp_path / STUDY_CSV)
    assert table.rows == {"good": "typical"}
    assert "unknown study label" in table.issues[0].cause
    assert "'bad'" in table.issues[0].field


def test_an_unknown_class_column_is_an_error(tmp_path, make):
    make.csv(tmp_path / STUDY_CSV, [["id", "Negative for Pneumonia", "Typical Appearance", "Odd Appearance"]])
    with pytest.raises(DataError, match="has no column 'Indeterminate Appearance', 'Atypical Appearance'"):
        read_studies(tmp_path / STUDY_CSV)


def test_joins_tables_and_files(tmp_path, make):
    folder = read_folder(make.siim(tmp_path, studies=8), Options())
    assert not folder.skipped
    assert list(folder.samples)[:3] == ["image0000", "image0001", "image0010"]
    assert folder.samples["image0010"].study_class == "typical"
    assert folder.samples["image0010"].file_name == "study001/image0010.png"


def test_what_does_not_match_is_listed(tmp_path, make):
    raw = make.siim(tmp_path, studies=8)
    (raw / "train/study001/series0/image0010.dcm").unlink()
    make.dicom(raw / "train/study002/series0/stranger.dcm", make.picture(1))
    (raw / "train/study003").rename(raw / "train/study999")
    (raw / "train/study004/series0/image0040.dcm").rename(raw / "train/study004/image0040.dcm")
    lines = (raw / STUDY_CSV).read_text().replace("study005_study,0,1", "study005_study,1,1").splitlines()
    (raw / STUDY_CSV).write_text("\n".join(line for line in lines if "study006" not in line))
    folder = read_folder(raw, Options())
    assert {sample.study_id for sample in folder.samples.values()} == {"study000", "study002", "study007"}
    assert Counter((issue.file, issue.cause.split(" (")[0]) for issue in folder.skipped) == Counter(
        {
            (IMAGE_CSV, "no such file below train/"): 1,
            ("train/study002/series0/stranger.dcm", f"no row in {IMAGE_CSV}"): 1,
            ("train/study999/series0/image0030.dcm", f"{IMAGE_CSV} puts it into study 'study003'"): 1,
            ("train/study004/image0040.dcm", "expected train/<study>/<series>/<image>.dcm"): 1,
            (
                STUDY_CSV,
                "unknown study label: expected a single 1 among the four classes, got 1 1 0 0",
            ): 1,
            (
                "train/study005/series0/image0050.dcm",
                f"the row of study 'study005' in {STUDY_CSV} is unusable",
            ): 1,
            ("train/study006/series0/image0060.dcm", f"study 'study006' has no row in {STUDY_CSV}"): 1,
        }
    )


@pytest.mark.parametrize("missing", [IMAGE_CSV, STUDY_CSV])
def test_a_missing_table_is_an_error(tmp_path, make, missing):
    raw = make.siim(tmp_path, studies=1)
    (raw / missing).unlink()
    with pytest.raises(DataError, match=f"{missing}: no such file"):
        read_folder(raw, Options())


@pytest.mark.realdata
def test_the_full_tables_parse_to_the_published_counts(realdata):
    images = read_images(realdata / "labels/siim" / IMAGE_CSV)
    studies = read_studies(realdata / "labels/siim" / STUDY_CSV)
    assert images.issues == studies.issues == []
    assert (len(images.rows), len(studies.rows)) == (6334, 6054)
    assert {row.study_id for row in images.rows.values()} == set(studies.rows)
    per_image = Counter(len(row.boxes) for row in images.rows.values())
    assert per_image == {0: 2040, 1: 973, 2: 3113, 3: 183, 4: 23, 5: 1, 8: 1}
    assert sum(len(row.boxes) for row in images.rows.values()) == 7853
    areas = [box[2] * box[3] for row in images.rows.values() for box in row.boxes]
    assert sum(areas) / len(areas) == pytest.approx(824_588, abs=1)
    classes = Counter(studies.rows.values())
    assert [classes[name] for name in STUDY_CLASSES] == [1676, 2855, 1049, 474]
