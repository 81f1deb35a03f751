"""tools/ensemble.py over folders as people have them: every file is accounted for."""

import csv
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from covidmm.outputs.kaggle import read_submission
from tests.corpus.valid import dataset, saved, smooth
from tests.helpers.tool_runs import run_tool

PYDICOM_FILES = Path(pydicom.__file__).parent / "data/test_files"


def run(random_ensemble, data, out, *options):
    ended = run_tool("ensemble.py", random_ensemble.config, "--data", data, "--predictions", out, *options)
    assert ended.code == 0, ended.output
    return ended.output


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def accounted(output, out, count):
    """Numbers of the summary, which add up to the files that there are, and agree with the tables."""
    (found,) = re.findall(
        r"^(\d+) files: (\d+) predicted, (\d+) refused, (\d+) cannot be read, (\d+) left out$", output, re.MULTILINE
    )
    files, predicted, refused, damaged, left_out = map(int, found)
    assert files == count == predicted + refused + damaged + left_out
    skipped = rows(out / "images/skipped.csv")
    kinds = [row["what"] for row in skipped]
    assert (kinds.count("refused"), kinds.count("damaged")) == (refused, damaged)
    assert kinds.count("left out") + kinds.count("error") == left_out
    assert all(row["cause"] and row["file"] for row in skipped)
    images = [name for name in read_submission(out / "images/submission.csv") if name.endswith("_image")]
    assert len(images) == predicted + refused + damaged
    return predicted, refused, damaged, left_out


def uid_named(folder):
    """Six radiographs in three syntaxes and their company, under the names that a storage SCP gives."""
    folder.mkdir()
    known = {"BodyPartExamined": "CHEST"}

    def write(made, name=None):
        (folder / (name or str(made.SOPInstanceUID))).write_bytes(saved(made))
        return made

    for number, syntax in enumerate((ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless) * 2):
        made = dataset(f"chest {number}", smooth(4000 - 90 * number), **known)
        if syntax.is_encapsulated:
            made.compress(syntax, generate_instance_uid=False)
        made.file_meta.TransferSyntaxUID = syntax
        write(made)
    write(dataset("chest 0", smooth(4000), **known), "CR.1.2.276.0.7230010.3.1.4.1")
    write(dataset("chest 1", smooth(4000)[::-1].copy(), **known), "other.img")
    write(dataset("leg", Modality="DX", BodyPartExamined="LEG"))
    ct = dataset("ct", Modality="CT", **known)
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    write(ct)
    write(dataset("window", WindowCenter=9e6, WindowWidth=1, NumberOfFrames=2, **known,
                  PixelData=np.stack([smooth()] * 2).tobytes()))  # fmt: skip
    report = dataset("report", Rows=None, Columns=None, PixelData=None)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    write(report)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".DS_Store").write_bytes(bytes(9))
    return len(list(folder.iterdir()))


def test_files_named_by_their_uid(random_ensemble, tmp_path):
    count = uid_named(tmp_path / "data")
    output = run(random_ensemble, tmp_path / "data", tmp_path / "out", "--sr", tmp_path / "sr")
    assert accounted(output, tmp_path / "out", count) == (7, 2, 0, 5)
    skipped = {Path(row["file"]).name: row for row in rows(tmp_path / "out/images/skipped.csv")}
    leg, ct = dataset("leg").SOPInstanceUID, dataset("ct").SOPInstanceUID
    assert "BodyPartExamined is 'LEG', the models are for CHEST" in skipped[leg]["cause"]
    assert "Modality is 'CT', the models are for CR" in skipped[ct]["cause"]
    assert skipped["CR.1.2.276.0.7230010.3.1.4.1"]["what"] == "left out"
    assert skipped["CR.1.2.276.0.7230010.3.1.4.1"]["cause"].endswith("and is a copy of it")
    assert skipped["other.img"]["what"] == "error"
    assert "but is another image" in skipped["other.img"]["cause"]
    assert re.search(r"^images that are lost: 1, see .*\n  error: .*other\.img: has the image id", output, re.MULTILINE)
    assert "2 of 9 images are refused by 'accepts' of the config" in output
    notes = rows(tmp_path / "out/images/notes.csv")
    assert {row["image"] for row in notes} == {f"{dataset('window').SOPInstanceUID}_image"}
    assert "first of 2 frames" in {row["note"] for row in notes}
    assert "images with notes on how they were read: 1 of 9" in output
    assert "7 Structured Reports" in output
    assert "BodyPartExamined is 'LEG'" in output.partition("2 studies have none")[2]


def test_a_second_run_says_the_same(random_ensemble, tmp_path):
    count = uid_named(tmp_path / "data")
    first = run(random_ensemble, tmp_path / "data", tmp_path / "out")
    tables = {name: (tmp_path / f"out/images/{name}.csv").read_bytes() for name in ("skipped", "notes")}
    again = run(random_ensemble, tmp_path / "data", tmp_path / "out")
    assert "no model was run" in again
    assert accounted(again, tmp_path / "out", count) == accounted(first, tmp_path / "out", count)
    assert tables == {name: (tmp_path / f"out/images/{name}.csv").read_bytes() for name in tables}
    everything = run(random_ensemble, tmp_path / "data", tmp_path / "out", "--cfg-options", "accepts=None")
    assert "out of date (accepts changed)" in everything
    assert accounted(everything, tmp_path / "out", count) == (9, 0, 0, 5)


@pytest.mark.skipif(not PYDICOM_FILES.is_dir(), reason="pydicom came without its files")
def test_pydicoms_own_test_files(random_ensemble, tmp_path):
    count = sum(path.is_file() for path in PYDICOM_FILES.rglob("*"))
    output = run(random_ensemble, PYDICOM_FILES, tmp_path / "out")
    predicted, refused, _, left_out = accounted(output, tmp_path / "out", count)
    assert predicted > 20  # secondary captures
    assert refused > 40  # CT, MR, ultrasound and others
    assert left_out > 80  # reports, plans, headers alone, directories, text
    causes = {Path(row["file"]).name: row["cause"] for row in rows(tmp_path / "out/images/skipped.csv")}
    assert "Modality is 'MR'" in "".join(causes.values())
    assert "holds no image: Comprehensive SR Storage" in causes["test-SR.dcm"]
