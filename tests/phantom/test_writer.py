import ast
import csv
from pathlib import Path

import pydicom
import pytest

import covidmm.phantom.writer as writer_module
from covidmm.errors import DataError
from covidmm.phantom import write_phantoms
from covidmm.phantom.study import plan_study, render
from covidmm.phantom.three_readers import NAMES
from covidmm.phantom.writer import LAYOUTS
from covidmm.prepare.layouts.vindr import FINDINGS, read_folder
from covidmm.prepare.options import Options

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


@pytest.fixture(scope="module")
def vindr(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms") / "vindr"
    return out, write_phantoms(out, STUDIES, seed=4, size=SIZE, workers=1, layout="vindr")


def truths():
    """The true boxes by image: name of the finding, and corners."""
    found = {}
    for index in range(STUDIES):
        study = plan_study(4, index, SIZE, LAYOUTS["vindr"])
        for number, image in enumerate(study.images):
            kinds = render(study, number).kinds.items()
            found[image] = [(NAMES[kind][0], box) for kind, boxes in kinds for box in boxes.tolist()]
    return found


def test_vindr_is_the_same_whatever_the_workers_and_the_number_of_studies(vindr, tmp_path):
    whole = contents(vindr[0])
    write_phantoms(tmp_path, 8, seed=4, size=SIZE, workers=2, layout="vindr")
    fewer = contents(tmp_path)
    lines = fewer.pop("train.csv").splitlines()
    assert all(whole[name] == data for name, data in fewer.items())
    assert set(lines) < set(whole["train.csv"].splitlines())


def test_three_readers_nearly_agree_on_the_findings_of_an_image(vindr):
    out, summary = vindr
    true, listed = truths(), rows(out / "train.csv")
    assert summary.boxes == sum(map(len, true.values()))
    assert {row["image_id"] for row in listed} == set(true) == {path.stem for path in out.glob("train/*.dicom")}
    drawn, right = 0, 0
    for image, boxes in true.items():
        own = [row for row in listed if row["image_id"] == image]
        assert len({row["rad_id"] for row in own}) == 3
        for row in own if boxes else ():
            if row["class_name"] != "No finding":
                corners = [int(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")]
                best = max(boxes, key=lambda box: iou(box[1], corners))
                assert iou(best[1], corners) > 0.7
                drawn, right = drawn + 1, right + (best[0] == row["class_name"])
        assert boxes or {row["class_name"] for row in own} == {"No finding"}
    assert 0.8 * 3 * summary.boxes < drawn < 3 * summary.boxes, "readers miss few"
    assert 0.85 * drawn < right < drawn, "readers mistake few"


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_vindr_is_read_by_its_layout(vindr):
    folder = read_folder(vindr[0], Options())
    assert folder.categories == FINDINGS
    assert not folder.skipped
    assert len(folder.samples) == vindr[1].images
    names = {FINDINGS[box.label] for sample in folder.samples.values() for box in sample.boxes}
    assert {"Lung Opacity", "Consolidation", "Pleural effusion", "Cardiomegaly"} <= names


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
        ({"studies": 1, "seed": 0, "layout": "nih"}, r"layout: siim or vindr expected, got 'nih'"),
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
