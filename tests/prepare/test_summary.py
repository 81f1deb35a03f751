from pathlib import Path

from covidmm.prepare.samples import Issue
from covidmm.prepare.summary import Listed, Summary


def counts(images, boxes):
    return {
        "studies": images,
        "images": images,
        "images_with_boxes": boxes,
        "images_without_boxes": images - boxes,
        "boxes": boxes,
        "images_per_class": {"negative": images - boxes, "typical": boxes, "atypical": 0},
    }


def summary(skipped=(), notes=()):
    return Summary(
        out=Path("out"),
        written=7,
        kept=3,
        skipped=Listed.of(skipped),
        notes=Listed.of(notes),
        left_out={},
        counts={"train": counts(8, 5), "test": counts(2, 1)},
        near_duplicates=1,
    )


def test_the_table_has_a_column_per_split_and_a_row_per_class_that_occurs():
    lines = summary().text().splitlines()
    assert lines[0].split() == ["train", "test"]
    assert next(line for line in lines if "with boxes" in line).split()[-2:] == ["5", "1"]
    assert any("typical" in line and "atypical" not in line for line in lines)
    assert not any("atypical" in line for line in lines)
    assert "images        7 written, 3 already there" in lines


def test_what_was_skipped_is_listed_and_a_long_list_counted():
    issues = [Issue(f"{n:02}.dcm", "pixels", "is empty") for n in range(12)]
    text = summary(skipped=issues).text()
    assert "skipped       12, in out/skipped.csv" in text
    assert "00.dcm: pixels: is empty" in text
    assert "11.dcm" not in text
    assert "12 for pixels" in text
    assert summary(notes=issues[:2]).text().count("notes         2, in out/notes.csv") == 1
