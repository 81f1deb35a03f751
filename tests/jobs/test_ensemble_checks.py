"""What can be known before the work is an error before it: no network is loaded here."""

import json
import shutil

import pytest
import torch

from covidmm.datasets.image_folders import read_image_folder
from covidmm.engine.training_images import image_key
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.ensembles.learned import LearnedFusion, LearnedParameters, MemberParameters, write_learned
from covidmm.errors import CheckpointError, ConfigError, CovidmmError, DataError, PluginError
from covidmm.inference import core
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.jobs.ensemble_checks import require_unfitted_fusion
from covidmm.jobs.folder_run import FolderRun
from covidmm.jobs.folder_truth import read_truth, require_scorable
from covidmm.jobs.scoring import plan_thresholds


@pytest.fixture
def ask(random_ensemble, tmp_path, monkeypatch):
    """The job on the prepared folder; a detector that is loaded is another error."""
    monkeypatch.setattr(core, "Detector", None)

    def call(config=random_ensemble.config, data=random_ensemble.prepared, **options):
        return ensemble(Request(str(config), str(data), predictions=str(tmp_path / "p"), **options))

    return call


@pytest.fixture
def test_set(random_ensemble, tmp_path):
    """A prepared folder that is a test set alone."""
    folder = tmp_path / "external"
    shutil.copytree(random_ensemble.prepared, folder)
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").unlink()
    return folder


def test_options_are_checked_before_anything_is_predicted(ask, random_ensemble, tmp_path):
    (tmp_path / "file").write_text("id,PredictionString\nother_image,none 1 0 0 1 1\n")
    for options, error, message in (
        ({"sample": str(tmp_path / "none.csv")}, DataError, r"^--sample: .*none\.csv: no such file"),
        ({"sample": str(tmp_path / "file")}, DataError, r"^--sample: .*prepared: lacks 1 ids .*: other_image"),
        ({"out": str(tmp_path / "file/a.csv")}, ConfigError, r"^--out .*a\.csv: cannot be written, .*file is not a f"),
        ({"out": str(tmp_path)}, ConfigError, "^--out .*: is a folder; name the file to write"),
        ({"metrics": str(tmp_path), "score": True}, ConfigError, "^--metrics .*: is a folder"),
        ({"show_dir": str(tmp_path / "file"), "score": True}, ConfigError, "^--show-dir .*: is a file; name a folder"),
        ({"sr": str(tmp_path / "file")}, ConfigError, "^--sr .*: is a file"),
        ({"sr": str(tmp_path / "sr")}, ConfigError, "^--sr: .*: is prepared"),
        ({"sr_deidentify": True}, ConfigError, "^--sr-deidentify: only --sr"),
        ({"thresholds_from": "x"}, ConfigError, "^--thresholds-from: only --score uses it"),
        ({"allow_training_images": True}, ConfigError, "^--allow-training-images: only --score and --sweep"),
        ({"strategy": "learned"}, PluginError, r"'learned' needs parameters: --cfg-options strategy\.type=learned str"),
        ({"strategy": "lerned"}, PluginError, "did you mean 'learned'"),
        ({"cfg_options": ("study=None",)}, ConfigError, "^none: the rule 'blend' needs a study classifier; use none ="),
        ({"cfg_options": ("members.frcn.weight=2",)}, ConfigError, "'frcn': has no 'config'.*did you mean 'frcnn'"),
        ({"cfg_options": ("strategy.type=best_single", "strategy.member=2")}, ConfigError, "there is no member 2"),
        ({"split": "vall"}, DataError, r"vall\.json: no such file"),
        ({"data": random_ensemble.raw, "show_dir": "x", "score": True}, ConfigError, "^--show-dir: .*prepared folders"),
    ):
        with pytest.raises(error, match=message):
            ask(**options)
    assert not (tmp_path / "p").exists()


def test_a_learned_fusion_of_other_members_is_refused(ask, tmp_path):
    members = [{"name": name} for name in ("yolo", "frcnn")]
    content = {"format": "covidmm learned fusion", "version": 1, "members": members, "iou_thr": 0.5, "final_nms": None}
    (tmp_path / "learned.json").write_text(json.dumps({**content, "images": 3}))
    options = ("strategy.type=learned", f"strategy.parameters={tmp_path / 'learned.json'}")
    with pytest.raises(ConfigError, match="fitted for the members yolo, frcnn, in this order; the config has frcnn, y"):
        ask(cfg_options=options)


def test_a_test_set_alone_needs_thresholds_before_it_is_predicted(ask, test_set, random_ensemble):
    with pytest.raises(DataError, match=r"operating\.json: no thresholds yet; .*--thresholds-from PREPARED"):
        ask(data=test_set, score=True)
    with pytest.raises(DataError, match=r"val\.json: no such file"):
        ask(data=test_set, score=True, thresholds_from=str(test_set))
    with pytest.raises(CovidmmError, match=r"^--thresholds-from: nowhere: no such folder or file"):
        ask(data=test_set, score=True, thresholds_from="nowhere")


def test_thresholds_are_those_of_the_training_folder(test_set, random_ensemble, tmp_path):
    config = load_ensemble(random_ensemble.config)
    run = FolderRun(config, read_image_folder(test_set), tmp_path / "p/test")
    plan = plan_thresholds(run, str(random_ensemble.prepared))
    assert plan.chosen_on.split == "val"
    assert plan.source.endswith(f"validation images of {random_ensemble.prepared}")
    chosen = {"frcnn": 0.1, "yolo": 0.2, "ensemble": 0.3}
    kept = tmp_path / "p/operating.json"
    kept.parent.mkdir()
    other = FolderRun(config, read_image_folder(random_ensemble.prepared, "val"), tmp_path / "p/val")
    kept.write_text(json.dumps({"thresholds": chosen, "made_from": other.cache_keys()}))
    assert plan_thresholds(run).thresholds == (chosen, {})
    assert plan_thresholds(run, str(kept)).source == str(kept)
    home = FolderRun(config, read_image_folder(random_ensemble.prepared), tmp_path / "p/test")
    assert plan_thresholds(home).chosen_on.source == random_ensemble.prepared


def test_another_folder_s_own_validation_split_comes_last(random_ensemble, tmp_path, monkeypatch):
    config = load_ensemble(random_ensemble.config)
    run = FolderRun(config, read_image_folder(random_ensemble.prepared), tmp_path / "p/test")
    monkeypatch.setattr("covidmm.jobs.scoring.stored_provenance", lambda path: {"data_sha256": "another"})
    assert "on which no member was trained; --thresholds-from" in plan_thresholds(run).source
    chosen = {"frcnn": 0.1, "yolo": 0.2, "ensemble": 0.3}
    (tmp_path / "p").mkdir()
    (tmp_path / "p/operating.json").write_text(json.dumps({"thresholds": chosen, "made_from": run.cache_keys()}))
    assert plan_thresholds(run).thresholds == (chosen, {})


def test_images_that_trained_a_member_are_neither_scored_nor_chosen_on(ask, random_ensemble, tmp_path):
    val = read_image_folder(random_ensemble.prepared, "val").images
    content = torch.load(random_ensemble.members["yolo"].checkpoint, weights_only=True)
    keys = torch.tensor([image_key(one.study_id, one.image_id) for one in val[:2]])
    torch.save({**content, "meta": {"training_images": keys}}, tmp_path / "yolo.pth")
    options = (f"members.yolo.checkpoint={tmp_path / 'yolo.pth'}",)
    for asked in ({"sweep": True}, {"score": True}, {"score": True, "split": "val"}):
        chosen = {"frcnn": 0.1, "yolo": 0.2, "ensemble": 0.3}
        config = load_ensemble(random_ensemble.config, options)
        run = FolderRun(config, read_image_folder(random_ensemble.prepared), tmp_path / "p/test")
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p/operating.json").write_text(json.dumps({"thresholds": chosen, "made_from": run.cache_keys()}))
        with pytest.raises(CheckpointError, match=r"^member 'yolo': 2 of the \d+ images of .*\(val\) trained it"):
            ask(cfg_options=options, **asked)


def _changed(folder, split, change, tmp_path):
    """A copy of the annotations of a prepared folder, one split changed."""
    copy = tmp_path / "changed"
    shutil.copytree(folder / "annotations", copy / "annotations")
    shutil.copy(folder / "prepared.json", copy)
    path = copy / f"annotations/{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return copy


def _without_boxes(content):
    content["annotations"] = []


def _of_crowds(content):
    for one in content["annotations"]:
        one["iscrowd"] = 1


def _of_another_category(content):
    content["categories"][0]["name"] = "lesion"


def _with_a_study_of_no_class(content):
    study = content["images"][0]["study_id"]
    for image in content["images"]:
        if image["study_id"] == study:
            image["study_class"] = None


@pytest.mark.parametrize(
    ("split", "change", "options", "message"),
    [
        ("test", _without_boxes, {"score": True}, r"test\.json: no image has a true box; nothing can be scored"),
        ("test", _of_crowds, {"score": True}, r"test\.json: no image has a true box"),
        ("val", _without_boxes, {"score": True}, r"val\.json: no image has a true box"),
        ("val", _without_boxes, {"sweep": True}, r"val\.json: no image has a true box"),
        ("test", _of_another_category, {"score": True}, r"test\.json: has the categories lesion, the ensemble finds"),
        ("test", _with_a_study_of_no_class, {"score": True}, r"test\.json: 1 studies have no class"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused_before_anything_is_predicted(
    ask, random_ensemble, tmp_path, split, change, options, message
):
    with pytest.raises(DataError, match=message):
        ask(data=_changed(random_ensemble.prepared, split, change, tmp_path), **options)


def test_a_learned_fusion_is_not_scored_on_what_it_was_fitted_on(random_ensemble, tmp_path, capsys):
    keys = {}
    folders = {split: read_image_folder(random_ensemble.prepared, split) for split in ("val", "test")}
    for split, folder in folders.items():
        keys[split] = FolderRun(load_ensemble(random_ensemble.config), folder, tmp_path / split).cache_keys()
    members = tuple(MemberParameters(name, 1.0, 0.0) for name in ("frcnn", "yolo"))
    fitted = {name: keys["val"][name] for name in ("frcnn", "yolo")}
    parameters = LearnedParameters(members, 0.5, None, 5, fitted_on=fitted)
    write_learned(tmp_path / "learned.json", {"opacity": parameters})
    fusion = LearnedFusion(str(tmp_path / "learned.json"))
    require_unfitted_fusion(fusion, keys["test"], folders["test"], allowed=False)
    with pytest.raises(DataError, match=r"learned\.json: the fusion was fitted on the images of .*\(val\); score"):
        require_unfitted_fusion(fusion, keys["val"], folders["val"], allowed=False)
    require_unfitted_fusion(fusion, keys["val"], folders["val"], allowed=True)
    assert "what is measured there is too good" in capsys.readouterr().out


def test_thresholds_that_the_scored_images_chose_are_called_so(random_ensemble, tmp_path):
    config = load_ensemble(random_ensemble.config)
    runs = {
        split: FolderRun(config, read_image_folder(random_ensemble.prepared, split), tmp_path / split)
        for split in ("val", "test")
    }
    kept = tmp_path / "operating.json"
    chosen = {"frcnn": 0.1, "yolo": 0.2, "ensemble": 0.3}
    kept.write_text(json.dumps({"thresholds": chosen, "made_from": runs["val"].cache_keys()}))
    for source in (str(kept), str(random_ensemble.prepared)):
        assert plan_thresholds(runs["val"], source).source.endswith(
            "(the scored images themselves chose them: optimistic)"
        )
        assert "optimistic" not in plan_thresholds(runs["test"], source).source


def test_boxes_of_other_classes_do_not_count_and_that_is_said(random_ensemble, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(random_ensemble.prepared, folder)
    path = folder / "annotations/test.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 7, "name": "nodule"})
    content["annotations"][-1]["category_id"] = 7
    path.write_text(json.dumps(content))
    cases = read_image_folder(folder)
    with pytest.warns(UserWarning, match=r"test\.json: boxes of nodule do not count, which the ensemble does not find"):
        require_scorable(cases, ("opacity",))
    truth = read_truth(cases, ("opacity",))
    assert sum(len(image.boxes) for image in truth.values()) == len(content["annotations"]) - 1
    with pytest.warns(UserWarning, match="no category of mass, which the ensemble finds: not scored"):
        require_scorable(cases, ("nodule", "mass", "opacity"))
    labels = [label for image in read_truth(cases, ("nodule", "opacity")).values() for label in image.labels]
    assert sorted(labels) == [0] + [1] * (len(content["annotations"]) - 1)
