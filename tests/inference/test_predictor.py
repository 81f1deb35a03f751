"""The predictor on every kind of source, against the files that the folder job makes."""

import gc
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from covidmm import radiograph
from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError, DataError, NotAcceptedError, PluginError, RadiographError
from covidmm.findings import Detections
from covidmm.inference import Predictor
from covidmm.inference.core import plugins
from covidmm.inference.detector import select
from covidmm.jobs.folder_run import FolderRun, run_folder
from covidmm.radiograph import Radiograph
from tests.corpus.valid import dataset, saved, smooth


@pytest.fixture(scope="module")
def predictor(random_ensemble):
    return Predictor.from_config(random_ensemble.config, device="cpu")


@pytest.fixture(scope="module")
def file(random_ensemble):
    return sorted((random_ensemble.raw / "train").rglob("*.dcm"))[4]


def same(one, other):
    assert one.images[0].fused.boxes == pytest.approx(other.images[0].fused.boxes, abs=1e-3)
    assert one.images[0].fused.scores == pytest.approx(other.images[0].fused.scores, abs=1e-5)
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_folder_gives_what_the_ensemble_job_writes(predictor, random_ensemble, tmp_path):
    config = load_ensemble(random_ensemble.config)
    outcome = run_folder(FolderRun(config, read_image_folder(random_ensemble.raw), tmp_path), plugins())
    wanted = {image.image_id: found for image, found in outcome.fused}
    found = predictor(random_ensemble.raw)
    assert sum(len(study.images) for study in found) == len(wanted)
    for study in found:
        assert study.probabilities == pytest.approx(outcome.studies[study.study_id], abs=1e-4)
        for image in study.images:
            assert image.fused.scores == pytest.approx(wanted[image.image_id].scores, abs=1e-5)
            assert image.fused.boxes == pytest.approx(wanted[image.image_id].boxes, abs=0.01)
            assert set(image.members) == {"frcnn", "yolo"}


def test_a_file_a_dataset_an_array_and_a_radiograph_are_the_same(predictor, file):
    (wanted,) = predictor(file)
    dataset = pydicom.dcmread(file)
    assert wanted.study_id == dataset.StudyInstanceUID
    for source in (str(file), dataset, radiograph.read(file), radiograph.read(file).pixels):
        (found,) = predictor(source)
        same(found, wanted)


def test_images_of_one_study_are_classified_together(predictor, random_ensemble, file):
    pair = sorted((random_ensemble.raw / "train" / "study000").rglob("*.dcm"))
    found = predictor([file, *pair])
    assert [len(study.images) for study in found] == [1, 2]
    alone = [predictor(path)[0].probabilities for path in pair]
    assert found[1].probabilities == pytest.approx(np.mean(alone, axis=0), abs=1e-4)


def test_pictures_are_studies_of_their_own(predictor, tmp_path, file):
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), radiograph.read(file).pixels)
    found = predictor([tmp_path / "a.png", tmp_path / "b.png"])
    assert [study.study_id for study in found] == ["a", "b"]
    same(*found)


def test_an_unreadable_image_raises_or_is_reported(predictor, tmp_path, file):
    shutil.copy(file, tmp_path / "good.dcm")
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    with pytest.raises(RadiographError, match=r"bad\.dcm: is neither"):
        predictor([tmp_path / "bad.dcm", file])
    found = {study.study_id: study for study in predictor(tmp_path, errors="report")}
    assert "is neither DICOM" in found["bad"].images[0].error
    assert found["bad"].probabilities is None
    assert len(found) == 2


def test_a_radiograph_of_another_kind_raises_or_is_reported(predictor):
    leg = dataset("leg", BodyPartExamined="LEG")
    with pytest.raises(NotAcceptedError, match="refused: BodyPartExamined is 'LEG'"):
        predictor(leg)
    (found,) = predictor(leg, errors="report")
    assert "BodyPartExamined is 'LEG'" in found.images[0].error
    assert found.probabilities is None


def test_findings_have_the_notes_of_their_image(predictor, tmp_path):
    known = {"BodyPartExamined": "CHEST"}
    frames = dataset("frames", NumberOfFrames=2, PixelData=smooth().tobytes() * 2, **known)
    assert [one.images[0].notes for one in predictor([frames, dataset("plain", **known)])] == [
        ("first of 2 frames",),
        (),
    ]
    (picture,) = predictor(smooth(255, "uint8"))
    assert picture.images[0].notes == (
        "taken without Modality, BodyPartExamined, ViewPosition: its header does not say what it shows",
    )


def test_a_folder_warns_of_what_is_left_out(predictor, tmp_path):
    (tmp_path / "1.2.840.77").write_bytes(saved(dataset("one")))
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"files that are left out: 1, the first: .*notes\.txt: is neither DICOM nor"):
        (found,) = predictor(tmp_path)
    assert found.images[0].image_id == dataset("one").SOPInstanceUID


@pytest.mark.parametrize("shape", [(4,), (5, 5, 3), (0, 9)])
def test_an_array_of_another_shape_is_refused(predictor, shape):
    with pytest.raises(RadiographError, match="array: "):
        predictor(np.zeros(shape, np.uint8))


def test_tensors_and_pillow_s_images_are_the_same_as_the_array(predictor, file):
    pixels = radiograph.read(file).pixels
    (wanted,) = predictor(pixels)
    tensor = torch.from_numpy(pixels.copy())
    for source in (tensor, tensor[None].expand(3, -1, -1) / 255, Image.fromarray(pixels), pixels[None]):
        (found,) = predictor(source)
        same(found, wanted)


def test_what_is_no_image_is_reported_beside_those_that_are(predictor, file):
    pixels = radiograph.read(file).pixels
    bad = [
        None,
        b"bytes",
        3.5,
        {},
        np.full((9, 9), np.nan),
        np.zeros((0, 3)),
        np.array([None]),
        torch.zeros(2, 3, 4, 4),
    ]
    for one in bad:
        with pytest.raises(RadiographError, match=r"^image1: array: .*"):
            predictor([one])
    found = [image for study in predictor([pixels, *bad], errors="report") for image in study.images]
    assert [image.error is None for image in found] == [True] + [False] * len(bad)
    assert [image.error.split(":")[0] for image in found[1:]] == [f"image{number}" for number in range(2, 10)]
    assert not any("\n" in image.error for image in found[1:])


def test_nothing_to_predict(predictor, tmp_path):
    assert predictor([]) == []
    with pytest.raises(DataError, match="no image in it"):
        predictor(tmp_path)


def test_a_variant_shares_the_networks_and_has_one_member_or_another_strategy(predictor, file):
    (every,) = predictor(file)
    alone = predictor.variant("yolo")
    assert alone.detectors == {"yolo": predictor.detectors["yolo"]}
    (found,) = alone(file)
    chosen = select(every.images[0].members["yolo"], predictor.config.members["yolo"])
    assert found.images[0].fused.scores == pytest.approx(chosen.scores)
    assert found.images[0].fused.boxes == pytest.approx(chosen.boxes, abs=1e-3)
    assert found.probabilities == pytest.approx(every.probabilities)
    (other,) = predictor.variant(strategy={"type": "nms"})(file)
    assert other.images[0].fused.scores.tolist() != every.images[0].fused.scores.tolist()
    same(predictor(file)[0], every)
    with pytest.raises(ConfigError, match="no member 'rcnn', there are frcnn, yolo: did you mean 'frcnn'"):
        predictor.variant("rcnn")
    with pytest.raises(PluginError, match="unknown ensemble strategy"):
        predictor.variant(strategy={"type": "x"})


def test_the_strategies_that_a_name_chooses(predictor):
    assert predictor.strategies[0] == "wbf"
    assert {"nms", "soft_nms", "nmw"} <= set(predictor.strategies)
    assert "learned" not in predictor.strategies  # has no default numbers


def test_an_unknown_strategy_is_refused_before_a_model_is_loaded(random_ensemble):
    with pytest.raises(PluginError, match="unknown ensemble strategy 'wfb': did you mean 'wbf'"):
        Predictor.from_config(random_ensemble.config, ["strategy.type=wfb"])


def test_the_example_of_the_readme_runs(random_ensemble, tmp_path, monkeypatch, capsys):
    root = Path(__file__).parents[2]
    (example,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) == 5  # a blank line aside, as short as it can be
    published = {"frcnn": "frcnn_r18_siim", "yolo": "yolov5n_siim", "study": "study_r18_siim"}
    for name, store_name in published.items():
        shutil.copy(random_ensemble.config.with_name(f"{name}.pth"), tmp_path / f"{store_name}.pth")
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    monkeypatch.chdir(root)
    folder = random_ensemble.raw / "train" / "study001"
    exec(example.replace("path/to/radiographs", str(folder)), {})
    assert capsys.readouterr().out.count("study001") == 1


class Broken:
    """A strategy and a study classifier that answer nonsense."""

    def fuse(self, members, weights, size):
        return Detections([[0, 0, size[1] + 2, size[0]]], [0.5])

    def classify(self, study):
        return np.full(4, 0.5)


def broken(predictor, part):
    other = predictor.variant()
    setattr(other, part, Broken())
    return other


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("strategy", r"image '.*': the ensemble strategy answered a box outside 160 x 200 pixels: .*"),
        ("classifier", r"study 'study003': the study classifier answered \[0.5, .*\], not 4 probabilities that add .*"),
    ],
)
def test_a_plugin_that_answers_nonsense_is_refused_in_one_line(predictor, file, part, message):
    with pytest.raises(PluginError, match=f"^{message}$") as caught:
        broken(predictor, part)(file)
    assert "\n" not in str(caught.value)


def held():
    """How many radiographs are in memory."""
    gc.collect()
    # not isinstance: that asks MMDetection's stand-ins for what they stand for
    return sum(type(one) is Radiograph and one.pixels.size > 0 for one in gc.get_objects())


def test_of_a_folder_one_study_is_held_at_a_time(predictor, random_ensemble):
    class Watching:
        def __init__(self):
            self.asked, self.alive = 0, []

        def classify(self, study):
            if self.asked % 3 == 0:  # to look through all objects takes half a second
                self.alive.append(held())
            self.asked += 1
            return np.full(4, 0.25)

    before = held()
    other = predictor.variant()
    other.classifier = Watching()
    found = other(random_ensemble.raw)
    assert (len(found), other.classifier.asked, len(other.classifier.alive)) == (24, 24, 8)
    # a batch of three at work, another read ahead with one more in the making, and a study of two
    assert max(other.classifier.alive) <= before + 3 + 3 + 1 + 2


def test_a_classifier_of_boxes_gets_no_pixels(predictor, file):
    class Boxes(Broken):
        uses_pixels = False

        def classify(self, study):
            assert study.radiographs[0].pixels.size == 0
            assert study.radiographs[0].header.height == 200
            return np.full(4, 0.25)

    other = predictor.variant()
    other.classifier = Boxes()
    assert other(file)[0].probabilities.tolist() == [0.25] * 4
