import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member
from covidmm.ensembles.learned import LearnedFusion, read_learned
from covidmm.errors import ConfigError, DataError
from covidmm.findings import Detections
from covidmm.inference.ensemble_classes import EnsembleClasses
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
    cases = fusion_cases(CONFIG, EnsembleClasses(), members(tmp_path), TRUTH)["opacity"].cases
    assert len(cases) == 24
    assert [case.group for case in cases[:4]] == ["s0", "s0", "s1", "s1"]
    assert all(one.scores.min(initial=1) >= 0.2 for case in cases for one in case.members[1:])


def test_the_better_member_is_found_on_validation(tmp_path, capsys):
    found = tune(CONFIG, EnsembleClasses(), members(tmp_path), TRUTH, tmp_path)
    good, bad = found["best"]["weights"]
    assert good > bad
    assert "24 validation images" in capsys.readouterr().out
    assert json.loads((tmp_path / "learned.json").read_text())["classes"]["opacity"]["images"] == 24
    assert {"sweep.csv", "sweep.png"} <= {path.name for path in tmp_path.iterdir()}


def test_without_a_single_box_no_fusion_is_chosen(tmp_path):
    nothing = {name: replace(one, boxes=NO_BOX, labels=NO_BOX[:, 0]) for name, one in TRUTH.items()}
    with pytest.raises(DataError, match="none has a true box"):
        tune(CONFIG, EnsembleClasses(), members(tmp_path), nothing, tmp_path)


def test_each_class_gets_the_fusion_of_its_voters(tmp_path, capsys):
    """Three classes: one of both members, one of the second alone, and one with a single study to learn from."""
    rng = np.random.default_rng(1)
    classes = EnsembleClasses(("mass", "effusion", "rare", "absent"), {"good": (0, None, 2, 3), "bad": (0, 1, 2, 3)})
    truth, found = {}, {}
    for number, image in enumerate(IMAGES):
        labels = [0] if number % 3 else [1]
        labels += [2] if number < 2 else []
        boxes = BOX + 5.0 * np.arange(len(labels))[:, None]
        truth[image.image_id] = replace(TRUTH[image.image_id], boxes=boxes, labels=np.array(labels))
    for name in classes.indices:
        with PredictionsWriter(tmp_path, name, {"checkpoint": name, "data_sha256": "ab"}) as writer:
            for image in IMAGES:
                labels = truth[image.image_id].labels
                kept = np.isin(labels, [0, 2]) if name == "good" else np.ones(len(labels), bool)
                noise = np.tile(rng.normal(0, 2 if name == "good" else 20, (kept.sum(), 2)), 2)
                boxes = (truth[image.image_id].boxes[kept] + noise).clip(0, 199)
                writer.add([(image, Detections(boxes, rng.uniform(0.3, 0.9, len(boxes)), labels[kept]))])
            found[name] = writer.finish()
    chosen = tune(CONFIG, classes, found, truth, tmp_path)
    told = capsys.readouterr().out
    assert "no part in the choice, without a true box in validation: absent" in told
    assert "learned fusion of rare: the config's numbers" in told
    assert set(chosen["learned"]) == {"mass", "effusion"}
    fitted = read_learned(tmp_path / "learned.json")
    assert list(fitted) == list(classes.names)
    assert [one.name for one in fitted["effusion"].members] == ["bad"]
    header, first = (tmp_path / "sweep.csv").read_text().splitlines()[:2]
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["mAP_50"]) == pytest.approx(np.mean([float(row[f"AP_50 {name}"]) for name in classes.names[:3]]))
    strategy = LearnedFusion(str(tmp_path / "learned.json"))
    classes.require_fits(strategy)
    with pytest.raises(
        ConfigError, match="fitted for the members bad of 'effusion', in this order; the config has good"
    ):
        EnsembleClasses(classes.names, {"good": (0, 1, 2, 3), "bad": (0, 1, 2, 3)}).require_fits(strategy)
