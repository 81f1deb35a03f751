import ast
import csv
from pathlib import Path

import pydicom
import pytest

import covidmm.phantom.writer as writer_module
from covidmm.errors import DataError
from covidmm.phantom import write_phantoms

# SIIM's ids, 12 hex digits, are no valid UIDs.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

SIZE = (200, 240)
STUDIES = 24


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms") / "raw"
    return out, write_phantoms(out, STUDIES, seed=4, size=SIZE, workers=1)


def test_same_bytes_whatever_the_workers_and_the_number_of_studies(raw, tmp_path):
    whole = contents(raw[0])
    write_phantoms(tmp_path / "two", 8, seed=4, size=SIZE, workers=2)
    fewer = {name: data for name, data in contents(tmp_path / "two").items() if name.endswith(".dcm")}
    assert len(fewer) >= 8
    assert all(whole[name] == data for name, data in fewer.items())


def test_writing_again_changes_nothing(raw):
    before = contents(raw[0])
    write_phantoms(raw[0], STUDIES, seed=4, size=SIZE, workers=1)
    assert contents(raw[0]) == before


def test_another_seed_gives_other_pictures(raw, tmp_path):
    write_phantoms(tmp_path, 1, seed=5, size=SIZE, workers=1)
    assert not set(contents(tmp_path).values()) & set(contents(raw[0]).values())


def test_layout_and_tables_agree(raw):
    out, summary = raw
    images, studies = rows(out / "train_image_level.csv"), rows(out / "train_study_level.csv")
    assert list(images[0]) == ["id", "boxes", "label", "StudyInstanceUID"]
    assert list(studies[0]) == ["id", "Negative for Pneumonia", "Typical Appearance",
                                "Indeterminate Appearance", "Atypical Appearance"]  # fmt: skip
    assert all(sum(int(row[name]) for name in list(row)[1:]) == 1 for row in studies)
    assert all(sum(int(row[name]) for row in studies) for name in list(studies[0])[1:])
    files = {p.stem: p for p in (out / "train").glob("*/*/*.dcm")}
    assert {row["id"] for row in images} == {f"{name}_image" for name in files}
    assert len(list(out.rglob("*"))) == len(files) + len(list(out.glob("train/*/*"))) + len(studies) + 3
    negative = {row["id"].removesuffix("_study") for row in studies if row["Negative for Pneumonia"] == "1"}
    total = 0
    for row in images:
        path = files[row["id"].removesuffix("_image")]
        assert path.parent.parent.name == row["StudyInstanceUID"]
        header = pydicom.dcmread(path)
        assert header.pixel_array.shape == (header.Rows, header.Columns)
        boxes = ast.literal_eval(row["boxes"]) if row["boxes"] else []
        assert (not boxes) == (row["StudyInstanceUID"] in negative)
        words = row["label"].split()
        if not boxes:
            assert row["label"] == "none 1 0 0 1 1"
            continue
        labelled = [list(map(float, words[k + 2 : k + 6])) for k in range(0, len(words), 6)]
        assert labelled == [[b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]] for b in boxes]
        assert all(x2 <= header.Columns and y2 <= header.Rows for _, _, x2, y2 in labelled)
        total += len(boxes)
    assert (summary.studies, summary.images, summary.boxes) == (STUDIES, len(files), total)
    assert sum(summary.classes.values()) == STUDIES


def test_files_are_mixed_as_in_siim(raw):
    seen = set()
    for path in raw[0].rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        seen |= {header.PhotometricInterpretation, header.BitsStored, header.file_meta.TransferSyntaxUID.name}
        seen |= {header.Modality, header.ViewPosition, header.PatientSex}
        seen |= {name for name in ("WindowCenter", "RescaleIntercept") if name in header}
    assert {"MONOCHROME1", "MONOCHROME2", 8, 12, 15, "DX", "CR", "AP", "PA", "F", "M"} <= seen
    assert {"Explicit VR Little Endian", "WindowCenter", "RescaleIntercept"} <= seen
    assert sum("Lossless" in str(each) for each in seen) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"studies": 0, "seed": 0}, r"studies: at least 1 expected, got 0"),
        ({"studies": 1, "seed": -1}, r"seed: 0 or more expected, got -1"),
        ({"studies": 1, "seed": 0, "size": (900, 800)}, r"size: .* got \(900, 800\)"),
        ({"studies": 1, "seed": 0, "size": (16, 800)}, r"size: "),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        write_phantoms(tmp_path / "out", workers=1, **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_set_is_refused(raw):
    before = contents(raw[0])
    with pytest.raises(DataError, match=r"train: holds 24 entries of another set .* name an empty folder"):
        write_phantoms(raw[0], 2, seed=5, size=SIZE, workers=1)
    assert contents(raw[0]) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/raw: the folder cannot be made: Not a directory"):
        write_phantoms(tmp_path / "file" / "raw", 1, seed=0, size=SIZE, workers=1)


def test_a_full_disk_leaves_no_part_of_a_file_and_no_table(tmp_path, monkeypatch):
    real = Path.write_bytes

    def write(path, data):
        if len(list(tmp_path.rglob("*.dcm"))) >= 2:
            real(path, data[:100])
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match="No space left"):
        write_phantoms(tmp_path, 8, seed=4, size=SIZE, workers=1)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.glob("*.csv"))
    monkeypatch.undo()
    assert write_phantoms(tmp_path, 8, seed=4, size=SIZE, workers=1).studies == 8


def test_the_docstring_warns_of_clinical_use():
    assert "never report it as a clinical result" in " ".join(writer_module.write_phantoms.__doc__.split())
