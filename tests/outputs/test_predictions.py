import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter, read_predictions

FINGERPRINT = {"checkpoint_sha256": "abc", "data_sha256": "def"}
IMAGES = [ImageEntry(f"image{k}", f"study{k // 2}", 100, 80) for k in range(5)]


def boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (count, 2))
    corners = np.concatenate([low, low + rng.uniform(1, 40, (count, 2))], 1).astype(np.float32)
    return Detections(corners, rng.uniform(0, 1, count).astype(np.float32))


def write(folder, found, name="frcnn", fingerprint=FINGERPRINT, size=2):
    with PredictionsWriter(folder, name, fingerprint) as writer:
        for start in range(writer.done, len(found), size):
            writer.add(list(zip(IMAGES, found, strict=True))[start : start + size])
        return writer.finish()


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5), st.integers(0, 99))
def test_what_is_written_is_read_again(tmp_path_factory, counts, seed):
    folder = tmp_path_factory.mktemp("predictions")
    found = [boxes(count, seed + k) for k, count in enumerate(counts)]
    write(folder, found)
    again = read_predictions(folder, "frcnn")
    assert again.fingerprint == FINGERPRINT
    for (image, one), wanted, entry in zip(again, found, IMAGES, strict=True):
        assert image == entry
        assert one.scores.tolist() == wanted.scores.tolist()
        assert one.boxes == pytest.approx(wanted.boxes, abs=2e-3)


def test_the_results_are_a_list_that_pycocotools_loads(tmp_path):
    path = write(tmp_path, [boxes(3), boxes(0), boxes(1), boxes(2), boxes(0)]).path
    truth = COCO()
    truth.dataset = {
        "images": [{"id": k} for k in range(1, 6)],
        "annotations": [],
        "categories": [{"id": 1}],
        "info": {},
    }
    truth.createIndex()
    loaded = truth.loadRes(str(path))
    assert [len(loaded.getAnnIds(imgIds=[k])) for k in range(1, 6)] == [3, 0, 1, 2, 0]


def test_no_box_at_all_is_an_empty_list(tmp_path):
    predictions = write(tmp_path, [boxes(0)] * 5)
    assert json.loads(predictions.path.read_text()) == []
    assert [len(found) for _, found in predictions] == [0] * 5


def test_nothing_is_there_until_it_is_whole_and_a_stopped_run_resumes(tmp_path):
    found = [boxes(2, k) for k in range(5)]
    with PredictionsWriter(tmp_path, "frcnn", FINGERPRINT) as writer:
        writer.add(list(zip(IMAGES, found, strict=True))[:2])
    assert read_predictions(tmp_path, "frcnn") is None
    with (tmp_path / "frcnn.part").open("ab") as file:
        file.write(b'[[{"image_id": "image2", "stu')  # killed while it wrote
    with PredictionsWriter(tmp_path, "frcnn", FINGERPRINT) as writer:
        assert writer.done == 2
        writer.add(list(zip(IMAGES, found, strict=True))[2:])
        writer.finish()
    whole = write(tmp_path / "undisturbed", found)
    assert (tmp_path / "frcnn.json").read_bytes() == whole.path.read_bytes()
    assert (tmp_path / "frcnn.header.json").read_bytes() == (tmp_path / "undisturbed/frcnn.header.json").read_bytes()
    assert not list(tmp_path.glob("*.part*"))


def test_two_runs_cannot_write_the_same_predictions(tmp_path):
    with (
        PredictionsWriter(tmp_path, "frcnn", FINGERPRINT),
        pytest.raises(DataError, match=r"frcnn\.part: another run is writing these predictions"),
        PredictionsWriter(tmp_path, "frcnn", FINGERPRINT),
    ):
        pass


def damage(folder, change, name="frcnn.json"):
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    if name == "frcnn.json":
        path.write_text("[\n" + ",\n".join(json.dumps(result) for result in content) + "\n]\n")
    else:
        path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[0].update(score=float("nan")), "image 'image0': boxes and scores must be finite"),
        (lambda r: r[0].update(score=1.5), "image 'image0': scores must lie in 0..1"),
        (lambda r: r[0].update(bbox=[70, 10, 30, 10]), r"image 'image0': box .* outside 80 x 100 pixels"),
        (lambda r: r[0].pop("score"), "image 'image0': 'score'"),
        (lambda r: r[0].update(image_id=9), "image_id 9 is unknown to its header, occurs twice or is out of order"),
        (lambda r: r.append(dict(r[0])), "image_id 1 is unknown to its header, occurs twice or is out of order"),
    ],
)
def test_faults_of_results_are_named(tmp_path, change, message):
    write(tmp_path, [boxes(1)] * 5)
    damage(tmp_path, change)
    with pytest.raises(DataError, match=message):
        list(read_predictions(tmp_path, "frcnn"))


@pytest.mark.parametrize("content", [b"", b"[\n", b"\xff\n]\n"])
def test_a_file_without_its_end_is_not_taken_for_one_without_boxes(tmp_path, content):
    # as a power cut leaves one that was renamed seconds before
    write(tmp_path, [boxes(1)] * 5)
    (tmp_path / "frcnn.json").write_bytes(content)
    with pytest.raises(DataError, match=r"frcnn\.json: (ends in the middle|line 1 is damaged)"):
        list(read_predictions(tmp_path, "frcnn"))


def test_faults_of_headers_are_named(tmp_path):
    write(tmp_path, [boxes(1)] * 5)
    damage(tmp_path, lambda content: content["images"].append(content["images"][0]), "frcnn.header.json")
    with pytest.raises(DataError, match="image 'image0' occurs twice"):
        read_predictions(tmp_path, "frcnn")
    (tmp_path / "frcnn.header.json").write_text("{")
    with pytest.raises(DataError, match=r"frcnn\.header\.json: is no header of predictions"):
        read_predictions(tmp_path, "frcnn")
    write(tmp_path, [boxes(1)] * 5)
    (tmp_path / "frcnn.json").unlink()
    with pytest.raises(DataError, match=r"frcnn\.json: is missing"):
        read_predictions(tmp_path, "frcnn")
