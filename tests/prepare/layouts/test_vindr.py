import pytest

from covidmm.errors import DataError
from covidmm.prepare.layouts.vindr import FINDINGS, read_folder
from covidmm.prepare.options import Options

HEADER = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
NOTHING = ["b", "No finding", 14, "R1", "", "", "", ""]


def row(image="a", number=3, reader="R1", corners=(4, 6, 24, 26), **more):
    name = more.get("name", FINDINGS[number] if number < 14 else "No finding")
    return [image, name, number, reader, *corners]


def folder_of(tmp_path, make, *rows, readers="merge", header=HEADER):
    make.dicom(tmp_path / "train/a.dicom", make.picture(1))
    make.png(tmp_path / "train/b.png", 2)
    make.csv(tmp_path / "train.csv", [header, *rows])
    return read_folder(tmp_path, Options(readers=readers))


READ = (
    row(corners=(4, 6, 24, 26)),
    row(reader="R2", corners=(6, 6, 26, 26)),
    row(reader="R3", corners=(30, 30, 40, 50)),
    row(reader="R3", number=7, corners=(4, 6, 24, 26)),
)


def test_the_order_of_findings_is_the_publishers():
    assert len(FINDINGS) == 14
    assert list(FINDINGS) == sorted(FINDINGS, key=str.lower)


def test_boxes_of_readers_are_fused_per_finding(tmp_path, make):
    folder = folder_of(tmp_path, make, *READ, NOTHING)
    assert folder.categories == FINDINGS
    boxes = folder.samples["a"].boxes
    assert [(one.label, one.extra) for one in boxes] == [(3, {"readers": 2}), (3, {"readers": 1}), (7, {"readers": 1})]
    assert [one.box for one in boxes] == [
        pytest.approx((5, 6, 20, 20), abs=1e-3),
        pytest.approx((30, 30, 10, 20), abs=1e-3),
        pytest.approx((4, 6, 20, 20), abs=1e-3),
    ]
    assert folder.samples["b"].boxes == ()
    assert not folder.skipped


def test_a_reader_counts_once(tmp_path, make):
    folder = folder_of(
        tmp_path,
        make,
        row(),
        row(corners=(5, 6, 25, 26)),
        row(reader="R2", corners=(5, 6, 25, 26)),
        row(reader="R9", number=0),
    )
    assert [one.extra["readers"] for one in folder.samples["a"].boxes] == [1, 2]


def test_all_keeps_each_readers_boxes(tmp_path, make):
    boxes = folder_of(tmp_path, make, *READ, readers="all").samples["a"].boxes
    assert [(one.box, one.extra) for one in boxes[:2]] == [
        ((4, 6, 20, 20), {"reader": "R1"}),
        ((6, 6, 20, 20), {"reader": "R2"}),
    ]
    assert len(boxes) == 4


def test_consensus_keeps_what_two_readers_drew(tmp_path, make):
    folder = folder_of(tmp_path, make, *READ, row("b"), row("b", number=2, reader="R2"), readers="consensus")
    assert [one.extra for one in folder.samples["a"].boxes] == [{"readers": 2}]
    assert list(folder.samples) == ["a"], "an image with boxes of one reader alone is no negative"
    assert folder.left_out == {"on which no two readers drew the same box (--readers consensus)": 1}


@pytest.mark.parametrize(
    ("bad", "field", "cause"),
    [
        (row(number=15, name="Mass"), "class_name", "'Mass' with class_id 15, which is no class"),
        (row(number=2, name="Cardiomegaly"), "class_name", "which is Calcification"),
        (row(number=14), "class_name", "'No finding', yet the row has a box"),
        (row(reader=""), "rad_id", "is empty"),
        (row(image=""), "image_id", "is empty"),
        (row(corners=(24, 6, 4, 26)), "x2", "4 is below x1, 24"),
        (row(corners=(4, 6, 4, 26)), "x_max", "has no area"),
        (row(corners=(0.1, 0.2, 0.3, 0.4)), "box", "expected pixels, got shares"),
        (row(corners=("", "", "", "")), "x_min", "could not convert"),
    ],
)
def test_an_image_with_a_bad_row_is_not_used(tmp_path, make, bad, field, cause):
    folder = folder_of(tmp_path, make, row(), NOTHING, bad)
    assert list(folder.samples) == (["b"] if bad[0] else ["a", "b"])
    (issue,) = folder.skipped
    assert issue[:2] == ("train.csv", f"{field} (line 4, id {bad[0]!r})")
    assert cause in issue.cause
    assert not folder.left_out


def test_a_row_for_a_missing_image_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, row(), row("c"), NOTHING)
    assert [issue[:2] for issue in folder.skipped] == [("train.csv", "file_name (id 'c')")]


def test_sizes_are_kept_and_must_agree(tmp_path, make):
    sized = [*HEADER, "width", "height"]
    folder = folder_of(tmp_path, make, [*row(), 48, 60], [*row(reader="R2"), 96, 120], [*NOTHING, 48, 60], header=sized)
    assert {name: sample.size for name, sample in folder.samples.items()} == {"b": (60, 48)}
    assert "differs between the rows" in folder.skipped[0].cause


def test_the_table_is_needed_whole(tmp_path, make):
    with pytest.raises(DataError, match=r"train\.csv: no such file"):
        read_folder(tmp_path, Options())
    with pytest.raises(DataError, match="has no column 'rad_id'"):
        folder_of(tmp_path, make, header=[name for name in HEADER if name != "rad_id"])
