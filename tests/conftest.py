"""Tiny raw data sets in the official layouts, written with pydicom and OpenCV."""

from __future__ import annotations

import atexit
import csv
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, settings
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

import covidmm  # noqa: F401 - makes MMDetection importable
from tests.helpers.tool_runs import close_shared_server

REALDATA = Path(os.environ.get("COVIDMM_REALDATA", Path(__file__).parents[1] / "../shared/data")).resolve()
ONE_HOT = {"negative": "1,0,0,0", "typical": "0,1,0,0", "indeterminate": "0,0,1,0", "atypical": "0,0,0,1"}
pytest_plugins = ["tests.helpers.processor_time"]
# On a busy machine the clock says nothing about an example, nor about how long it takes to draw one.
settings.register_profile("tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
#: Marks of whole folders, and of all tests that use a fixture. `make check` leaves these out, and the single tests that
#: are marked `e2e` by themselves.
MARKED_FOLDERS = {"faults": "kills", "e2e": "e2e", "tools": "e2e"}
MARKED_FIXTURES = {"browser": "browser", "browse": "browser", "dask_cluster": "e2e", "random_ensemble": "networks"}
FIRST = ("kills", "e2e", "browser", "networks")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores, since many tests wait for others; at most four, which take 12 GB."""
    return min(4, len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests, and put the files that take longest first, so that none of them is begun last."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        for mark in {
            *(mark for name, mark in MARKED_FOLDERS.items() if name == folder),
            *(mark for name, mark in MARKED_FIXTURES.items() if name in item.fixturenames),
        }:
            item.add_marker(mark)
    place = {}
    for item in items:
        marks = [number for number, name in enumerate(FIRST) if item.get_closest_marker(name)]
        place[item.path] = min([len(FIRST), *marks, place.get(item.path, len(FIRST))])
    items.sort(key=lambda item: place[item.path])


# what tests find out about their own models stays with them; the processes that they start inherit it
os.environ["COVIDMM_CACHE"] = os.environ.get("COVIDMM_TEST_CACHE") or tempfile.mkdtemp(prefix="covidmm-cache-")
if "COVIDMM_TEST_CACHE" not in os.environ:
    os.environ["COVIDMM_TEST_CACHE"] = os.environ["COVIDMM_CACHE"]
    atexit.register(shutil.rmtree, os.environ["COVIDMM_CACHE"], ignore_errors=True)
# A shell that starts the tests in the background has every process under them ignore ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
STUDY_HEADER = [
    "id",
    "Negative for Pneumonia",
    "Typical Appearance",
    "Indeterminate Appearance",
    "Atypical Appearance",
]


def picture(seed: int, height: int = 60, width: int = 48) -> np.ndarray:
    """A random smooth 12-bit image: no two of them look alike."""
    coarse = np.random.default_rng(seed).integers(0, 4096, (8, 8)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 4095).astype(np.uint16)


def write_dicom(path: Path, pixels: np.ndarray, study: str = "", patient: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
    dataset.PatientID, dataset.PatientSex = patient, "F"
    with pydicom.config.disable_value_validation():  # SIIM's identifiers are no valid UIDs
        dataset.StudyInstanceUID = study or "1.2.4"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.save_as(path, enforce_file_format=True)


def write_png(path: Path, seed: int = 0, height: int = 60, width: int = 48) -> Path:
    """An 8-bit picture; no two seeds look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", (picture(seed, height, width) >> 4).astype(np.uint8))[1]
    path.write_bytes(encoded.tobytes())  # cv2.imwrite takes no name beyond ASCII on some systems
    return path


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def siim_row(image: str, study: str, boxes: Sequence[tuple[float, float, float, float]]) -> list[str]:
    named = [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes]
    label = " ".join(f"opacity 1 {x} {y} {x + w} {y + h}" for x, y, w, h in boxes)
    return [f"{image}_image", repr(named) if boxes else "", label or "none 1 0 0 1 1", study]


def write_siim(
    raw: Path,
    studies: int = 12,
    order: Callable[[list[int]], list[int]] = list,
    size: tuple[int, int] = (60, 48),
) -> Path:
    """A raw SIIM folder; study 0 has two images, study k is of class k % 4, negatives have no boxes."""
    images = [["id", "boxes", "label", "StudyInstanceUID"]]
    rows = [STUDY_HEADER]
    for number in order(list(range(studies))):
        study = f"study{number:03d}"
        name = list(ONE_HOT)[number % 4]
        rows.append([f"{study}_study", *ONE_HOT[name].split(",")])
        for part in range(2 if number == 0 else 1):
            image = f"image{number:03d}{part}"
            boxes = [] if name == "negative" else [(4.0, 6.0, 10.5, 20.0), (25.0, 8.0, 12.0, 30.0)][: number % 2 + 1]
            images.append(siim_row(image, study, boxes))
            pixels = picture(number * 10 + part, *size)
            write_dicom(raw / "train" / study / f"series{part}" / f"{image}.dcm", pixels, study, f"patient{number}")
    write_csv(raw / "train_image_level.csv", images)
    write_csv(raw / "train_study_level.csv", rows)
    return raw


def write_rsna(raw: Path, patients: int = 10) -> Path:
    """A raw RSNA folder; patients with an odd number have one box, every fifth has two."""
    rows: list[list[object]] = [["patientId", "x", "y", "width", "height", "Target"]]
    classes: list[list[object]] = [["patientId", "class"]]
    for number in range(patients):
        patient = f"patient{number:03d}"
        boxes = [] if number % 2 == 0 else [(4.0, 6.0, 10.0, 20.0), (25.0, 8.0, 12.0, 30.0)][: 1 + (number % 5 == 0)]
        for box in boxes:
            rows.append([patient, *box, 1])
            classes.append([patient, "Lung Opacity"])
        if not boxes:
            rows.append([patient, "", "", "", "", 0])
            classes.append([patient, "Normal" if number % 4 else "No Lung Opacity / Not Normal"])
        write_dicom(raw / "stage_2_train_images" / f"{patient}.dcm", picture(number), patient=patient)
    write_csv(raw / "stage_2_train_labels.csv", rows)
    write_csv(raw / "stage_2_detailed_class_info.csv", classes)
    return raw


NIH_HEADER = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]


def write_nih(raw: Path, patients: int = 12, lists: bool = False) -> Path:
    """A raw NIH folder; every patient has two images in different folders, one of them with findings."""
    rows: list[list[object]] = [[*NIH_HEADER, "View Position"]]
    for number in range(patients):
        for part in range(2):
            name = f"{number + 1:08d}_{part:03d}.png"
            finding = "No Finding" if part else ("Effusion|Atelectasis" if number % 2 else "Hernia")
            rows.append([name, finding, part, number + 1, "058Y", "F", "PA"])
            path = raw / f"images_{part + 1:03d}" / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), (picture(number * 2 + part) >> 4).astype(np.uint8))
    write_csv(raw / "Data_Entry_2017.csv", rows)
    if lists:
        names = [str(row[0]) for row in rows[1:]]
        (raw / "train_val_list.txt").write_text("\n".join(names[8:]))
        (raw / "test_list.txt").write_text("\n".join(names[:8]) + "\n")
    return raw


def read_provenance(path: Path) -> dict[str, str]:
    """RSNA patient -> NIH picture."""
    with path.open(newline="") as file:
        return {row["patientId"]: row["nih_image"] for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The writers above."""
    return SimpleNamespace(
        picture=picture,
        dicom=write_dicom,
        png=write_png,
        csv=write_csv,
        siim=write_siim,
        siim_row=siim_row,
        study_header=STUDY_HEADER,
        rsna=write_rsna,
        nih=write_nih,
        nih_header=NIH_HEADER,
        provenance=read_provenance,
    )


@pytest.fixture(scope="session", autouse=True)
def _tools() -> Iterator[None]:
    """Ends the server that starts tools."""
    yield
    close_shared_server()


@pytest.fixture
def _locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called `locked` cannot be listed: root may read everything."""
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.fixture(scope="session")
def realdata() -> Path:
    if not REALDATA.is_dir():
        pytest.skip(f"no real data in {REALDATA}")
    return REALDATA


@pytest.fixture(scope="session")
def random_ensemble(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two detectors and a study classifier with random weights, and phantoms to run them on.

    ``members`` by name, ``config`` (a file that inherits the shipped ensemble), ``raw`` and ``prepared`` folders.
    """
    from covidmm.ensembles.ensemble_config import load_ensemble
    from covidmm.prepare.options import Options
    from covidmm.prepare.pipeline import prepare
    from tests.helpers.random_models import write_ensemble

    folder = tmp_path_factory.mktemp("random_ensemble")
    raw = write_siim(folder / "raw", 24, size=(200, 160))
    prepare("siim", raw, folder / "prepared", Options(max_size=128, workers=1, progress=False))
    config = write_ensemble(folder)
    members = load_ensemble(config).members
    return SimpleNamespace(config=config, members=members, raw=raw, prepared=folder / "prepared")


@pytest.fixture(scope="session")
def sure_yolo(random_ensemble: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The random YOLOv5 as a member, its scores spread: nearly equal ones would change places between backends."""
    import torch

    member = random_ensemble.members["yolo"]
    state = torch.load(member.checkpoint, weights_only=True)["state_dict"]
    for name in state:
        if "convs_pred" in name and name.endswith("weight"):
            state[name] = state[name] * 30
    path = tmp_path_factory.mktemp("sure_yolo") / "yolo.pth"
    torch.save({"state_dict": state}, path)
    return replace(member, checkpoint=str(path))


@pytest.fixture(scope="module")
def dask_cluster() -> Any:
    """A real scheduler and two workers, processes of one thread each; one that dies is started again."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs="CRITICAL"
    )
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def kill_a_worker() -> Callable[[str], None]:
    """Ends one worker of a Dask cluster as a machine that loses power does."""

    def kill(address: str) -> None:
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    return kill
