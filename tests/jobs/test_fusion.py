import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covidmm.datasets.image_folders import ImageFolder
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member
from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.jobs.fusion import fuse_folder, joined
from covidmm.jobs.prediction import FolderRun
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter, read_predictions

IMAGES = [ImageEntry(f"image{k}", "study", 50, 40) for k in range(130)]


class Both:
    """All boxes of all members, with the weights as a trace in the scores."""

    def fuse(self, members, weights, size):
        assert size == (50, 40)
        scores = [one.scores * weight / 10 for one, weight in zip(members, weights, strict=True)]
        return Detections(np.concatenate([one.boxes for one in members]), np.concatenate(scores))


def write(folder, name, images=IMAGES, score=0.5):
    found = Detections(np.array([[1, 2, 11, 22], [2, 2, 11, 22]], np.float32), np.array([score, 0.1], np.float32))
    with PredictionsWriter(folder, name, {"checkpoint": name}) as writer:
        writer.add([(image, found) for image in images])
        return writer.finish()


def make_run(folder, **changes):
    members = {"a": Member("a.py", "a.pth", weight=1.0), "b": Member("b.py", "b.pth", weight=4.0)}
    config = EnsembleConfig(Path("e.py"), members, {"type": "both"}, None, {}, None, 512, 4)
    return FolderRun(replace(config, **changes), ImageFolder((), folder, None, None, ""), folder)


def test_thresholds_suppression_and_weights_reach_the_strategy(tmp_path):
    members = {"a": write(tmp_path, "a"), "b": write(tmp_path, "b", score=1.0)}
    run = make_run(tmp_path)
    chosen = {"a": replace(run.config.members["a"], score_threshold=0.3),
              "b": replace(run.config.members["b"], nms_iou_threshold=0.5)}  # fmt: skip
    run = replace(run, config=replace(run.config, members=chosen))
    fused = fuse_folder(run, Both(), members)
    rows = list(fused)
    assert [image for image, _ in rows] == IMAGES
    assert rows[0][1].scores.tolist() == pytest.approx([0.05, 0.4])
    assert run.seconds["fusion"] > 0
    assert read_predictions(tmp_path, "ensemble").fingerprint["members"]["b"]["weight"] == 4.0


def test_the_stamp_follows_strategy_weights_and_members(tmp_path):
    members = {"a": write(tmp_path, "a"), "b": write(tmp_path, "b")}
    stamps = []
    for run in (make_run(tmp_path), make_run(tmp_path, strategy={"type": "both", "x": 1})):
        stamps.append(json.dumps(fuse_folder(run, Both(), members).fingerprint))
    assert len(set(stamps)) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:-2], r"b\.json: lacks 2 of the images of .*a\.json, such as 'image128'"),
        ([*IMAGES, ImageEntry("more", "s", 50, 40)], r"a\.json: lacks 1 of the images of .*b\.json, such as 'more'"),
        (IMAGES[::-1], r"b\.json: has the images of .*a\.json in another order or size"),
        ([image._replace(height=60) for image in IMAGES], "in another order or size"),
    ],
)
def test_members_of_other_images_are_refused(tmp_path, images, message):
    members = {"a": write(tmp_path, "a"), "b": write(tmp_path, "b", images)}
    with pytest.raises(DataError, match=message):
        list(joined(members))
