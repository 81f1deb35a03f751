"""The whole job in one process, on random-weight models."""

import csv
import json
import os
import shutil

import pytest

from covidmm.errors import ConfigError, DataError, PluginError
from covidmm.inference import core
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.outputs.kaggle import read_submission

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scored(random_ensemble, tmp_path_factory):
    """The test split of the prepared folder, tuned, scored and drawn."""
    folder = tmp_path_factory.mktemp("scored")
    request = Request(
        str(random_ensemble.config),
        str(random_ensemble.prepared),
        predictions=str(folder),
        score=True,
        sweep=True,
        show_dir=str(folder / "pictures"),
    )
    return folder, request, ensemble(request)


def again(scored, monkeypatch, **changes):
    """The same job, in which no model may be loaded."""
    monkeypatch.setattr(core, "Detector", None)
    return ensemble(Request(**{**vars(scored[1]), "score": False, "sweep": False, "show_dir": None, **changes}))


def test_every_study_and_image_has_one_row(scored):
    folder, _, outcome = scored
    rows = read_submission(folder / "test/submission.csv")
    cases = outcome.run.cases.images
    assert list(rows) == [
        *(f"{study}_study" for study in dict.fromkeys(case.study_id for case in cases)),
        *(f"{case.image_id}_image" for case in cases),
    ]
    assert all(len(row) == 4 and sum(one.score for one in row) == pytest.approx(1, abs=1e-4)
               for name, row in rows.items() if name.endswith("_study"))  # fmt: skip
    assert all(row[-1].name == "none" for name, row in rows.items() if name.endswith("_image"))


def test_metrics_have_the_contract_s_keys_and_thresholds_are_validation_s(scored):
    folder, _, _ = scored
    metrics = json.loads((folder / "test/metrics.json").read_text())
    assert list(metrics["detectors"]) == ["frcnn", "yolo", "ensemble"]
    for name, found in metrics["detectors"].items():
        assert {"mAP_50", "mAP", "f1", "precision", "recall", "threshold", "mAP_50_interval"} <= set(found)
        operating = json.loads((folder / "operating.json").read_text())
        assert found["threshold"] == pytest.approx(operating["thresholds"][name])
    assert set(metrics["competition"]["per_class"]) >= {"negative", "none", "opacity"}
    assert {"accuracy", "f1", "precision", "recall", "mAP", "auroc"} <= set(metrics["study"])
    provenance = metrics["provenance"]["ensemble"]
    assert provenance["members"]["yolo"]["checkpoint_sha256"]
    assert provenance["data_sha256"]
    assert provenance["data_sha256_covers"] == "annotations of the split, and grey values"
    assert provenance["config_resolved_sha256"] != provenance["config_sha256"]
    assert len(provenance["study_checkpoints_sha256"]) == 1
    assert [found["unreadable"] for found in metrics["detectors"].values()] == [0, 0, 0]


def test_the_sweep_leaves_a_table_a_picture_and_a_learned_fusion_of_the_validation_split(scored):
    folder, _, _ = scored
    with (folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"iou_thr", "skip_box_thr", "weight_frcnn", "weight_yolo", "mAP_50", "f1"} <= set(rows[0])
    assert [float(row["mAP_50"]) for row in rows] == sorted((float(row["mAP_50"]) for row in rows), reverse=True)
    assert (folder / "sweep.png").stat().st_size > 5000
    learned = json.loads((folder / "learned.json").read_text())
    header = json.loads((folder / "val/yolo.header.json").read_text())
    assert learned["classes"]["opacity"]["fitted_on"]["yolo"] == header["made_from"]


def test_pictures_of_every_image_and_a_sheet(scored):
    folder, _, outcome = scored
    names = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert names == {"grid", *(case.image_id for case in outcome.run.cases.images)}


@pytest.mark.parametrize("strategy", ["nms", "soft_nms", "nmw", "best_single"])
def test_another_strategy_runs_no_model(scored, monkeypatch, strategy, tmp_path, capsys):
    outcome = again(scored, monkeypatch, strategy=strategy, out=str(tmp_path / "a.csv"))
    assert outcome.run.fresh == []
    assert "no model was run" in capsys.readouterr().out
    before = read_submission(scored[0] / "test/submission.csv")
    after = read_submission(tmp_path / "a.csv")
    assert before.keys() == after.keys()
    assert before != after


def test_the_learned_fusion_is_one_line_away(scored, monkeypatch, tmp_path):
    config = tmp_path / "learned.py"
    learned = f"dict(_delete_=True, type='learned', parameters='{scored[0] / 'learned.json'}')"
    config.write_text(f"_base_ = '{scored[1].config}'\nstrategy = {learned}\n")
    outcome = again(scored, monkeypatch, config=str(config), out=str(tmp_path / "a.csv"))
    assert outcome.fused.fingerprint["strategy"]["type"] == "learned"


def test_the_sample_submission_is_checked(scored, monkeypatch, tmp_path, capsys):
    sample = tmp_path / "sample_submission.csv"
    shutil.copy(scored[0] / "test/submission.csv", sample)
    again(scored, monkeypatch, sample=str(sample), out=str(tmp_path / "a.csv"))
    assert f"ids: the same as in {sample}" in capsys.readouterr().out
    sample.write_text(sample.read_text() + "more_image,none 1 0 0 1 1\n")
    with pytest.raises(DataError, match=r"lacks 1 ids .*: more_image"):
        again(scored, monkeypatch, sample=str(sample), out=str(tmp_path / "a.csv"))


def test_an_unreadable_image_has_its_row_and_is_listed(random_ensemble, tmp_path, capsys):
    raw = tmp_path / "raw"
    for study in ("study000", "study001", "study002"):
        shutil.copytree(random_ensemble.raw / "train" / study, raw / "test" / study)
    broken = [next((raw / "test/study001").rglob("*.dcm")), next((raw / "test/study000").rglob("*.dcm"))]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    ensemble(Request(str(random_ensemble.config), str(raw), predictions=str(tmp_path / "p")))
    rows = read_submission(tmp_path / "p/test/submission.csv")
    assert len(rows) == 3 + 4
    for path in broken:
        assert [tuple(one) for one in rows[f"{path.stem}_image"]] == [("none", 1.0, (0, 0, 1, 1))]
    assert [one.name for one in rows["study001_study"]] == ["negative"]
    assert len(rows["study000_study"]) == 4  # its other image speaks for it
    assert "2 of 4 images cannot be read" in capsys.readouterr().out
    assert (tmp_path / "p/test/skipped.csv").read_text().count("\n") == 3


def test_a_folder_of_nothing_readable_is_refused(random_ensemble, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image can be used, the first: .*a\.dcm"):
        ensemble(Request(str(random_ensemble.config), str(tmp_path / "raw"), predictions=str(tmp_path / "p")))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strategy": "wfb"}, PluginError, "unknown ensemble strategy 'wfb': did you mean 'wbf'"),
        ({"cfg_options": ("study.type=resnet",)}, PluginError, "unknown study classifier 'resnet'"),
        ({"cfg_options": ("none.rule=never",)}, ConfigError, "none: rule is 'never'"),
        ({"split": "tset"}, DataError, "tset.json: no such file"),
        ({"data": "nowhere"}, DataError, "nowhere: no such folder"),
        ({"show_dir": "pictures"}, ConfigError, "--show-dir: only --score"),
        ({"metrics": "m.json"}, ConfigError, "--metrics: only --score"),
        ({"config": "nowhere.py"}, ConfigError, "nowhere.py: no such config file"),
    ],
)
def test_faults_are_found_before_a_model_is_loaded(scored, monkeypatch, changes, error, message):
    with pytest.raises(error, match=message):
        again(scored, monkeypatch, **changes)


def test_a_raw_folder_cannot_be_scored_before_thresholds_are_chosen(random_ensemble, tmp_path):
    with pytest.raises(DataError, match="no thresholds yet; score the prepared folder first"):
        ensemble(Request(str(random_ensemble.config), str(random_ensemble.raw), predictions=str(tmp_path), score=True))


def test_a_raw_folder_is_scored_at_the_thresholds_that_validation_chose(scored, random_ensemble):
    outcome = ensemble(
        Request(str(random_ensemble.config), str(random_ensemble.raw), predictions=str(scored[0]), score=True)
    )
    metrics = json.loads((outcome.run.folder / "metrics.json").read_text())
    operating = json.loads((scored[0] / "operating.json").read_text())
    assert metrics["detectors"]["ensemble"]["threshold"] == pytest.approx(operating["thresholds"]["ensemble"])
    assert metrics["detectors"]["ensemble"]["images"] == 25


def test_a_file_whose_name_is_no_utf8_is_listed(random_ensemble, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(next(random_ensemble.raw.rglob("*.dcm")), data / "good.dcm")
    (data / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"x")
    ensemble(Request(str(random_ensemble.config), str(data), predictions=str(tmp_path / "out")))
    assert ".png" in (tmp_path / "out/images/skipped.csv").read_text()


def test_an_ensemble_without_a_study_classifier_is_scored(scored, monkeypatch, tmp_path, capsys):
    options = ("study=None", "none.rule=no_box")
    files = {"out": str(tmp_path / "a.csv"), "metrics": str(tmp_path / "m.json")}
    assert again(scored, monkeypatch, cfg_options=options, score=True, **files).studies is None
    rows = read_submission(tmp_path / "a.csv")
    assert {row[0].name for name, row in rows.items() if name.endswith("_study")} == {"negative"}
    found = json.loads((tmp_path / "m.json").read_text())
    assert "study" not in found
    source = found["detectors"]["ensemble"]["threshold_source"]
    assert source.endswith(f"validation images of {scored[1].data}")
    assert f"thresholds: chosen on {source}" in capsys.readouterr().out
