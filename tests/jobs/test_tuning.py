import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member
from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.jobs.tuning import fusion_cases, tune
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter

IMAGES = [ImageEntry(f"i{k}", f"s{k // 2}", 200, 200) for k in range(24)]
BOX = np.array([[20.0, 20, 90, 120]])
NO_BOX = np.zeros((0, 4))
TRUTH = {
    image.image_id: AnnotatedImage(Path("a.png"), image.image_id, image.study_id, BOX if number % 3 else NO_BOX)
    for number, image in enumerate(IMAGES)
}
CONFIG = EnsembleConfig(
    Path("e.py"), {"good": Member("a", "b"), "bad": Member("a", "b", score_threshold=0.2)}, {"type": "wbf"}, None, {},
    None, 512, 4,
)  # fmt: skip


def members(folder):
    """One that finds the box with a good score, one that is sure of boxes elsewhere."""
    rng = np.random.default_rng(0)
    found = {}
    for name in CONFIG.members:
        with PredictionsWriter(folder, name, {"checkpoint": name}) as writer:
            for image in IMAGES:
                near = TRUTH[image.image_id].boxes + rng.normal(0, 3, 4)
                far = BOX + np.array([90, 60, 90, 60]) + rng.normal(0, 8, 4)
                boxes = near if name == "good" else far
                high = 0.6 if name == "good" else 0.9
                writer.add([(image, Detections(boxes, rng.uniform(high - 0.3, high, len(boxes))))])
            found[name] = writer.finish()
    return found


def test_cases_are_the_members_own_choice_grouped_by_study(tmp_path):
    cases = fusion_cases(CONFIG, members(tmp_path), TRUTH)
    assert len(cases) == 24
    assert [case.group for case in cases[:4]] == ["s0", "s0", "s1", "s1"]
    assert all(one.scores.min(initial=1) >= 0.2 for case in cases for one in case.members[1:])


def test_the_better_member_is_found_on_validation(tmp_path, capsys):
    found = tune(CONFIG, members(tmp_path), TRUTH, tmp_path)
    good, bad = found["best"]["weights"]
    assert good > bad
    assert "24 validation images" in capsys.readouterr().out
    assert json.loads((tmp_path / "learned.json").read_text())["images"] == 24
    assert {"sweep.csv", "sweep.png"} <= {path.name for path in tmp_path.iterdir()}


def test_without_a_single_box_no_fusion_is_chosen(tmp_path):
    nothing = {name: replace(one, boxes=NO_BOX, labels=NO_BOX[:, 0]) for name, one in TRUTH.items()}
    with pytest.raises(DataError, match="none has a true box"):
        tune(CONFIG, members(tmp_path), nothing, tmp_path)
