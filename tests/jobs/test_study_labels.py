"""Study classifiers of a plugin's own classes, from its hook to scores, files, report, Structured Report and API."""

import csv
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

from fastapi.testclient import TestClient
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from covidmm.errors import ConfigError, PluginError
from covidmm.inference import Predictor
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.outputs.kaggle import image_row, read_submission, study_row, write_submission
from covidmm.phantom import write_phantoms
from covidmm.radiograph.sandbox import IsolatedReader
from covidmm.reports.report_page import report
from covidmm.web.app import Settings, create_app
from covidmm.web.service import Service

pytestmark = pytest.mark.e2e
PLUGIN = """
import hashlib
import numpy as np
from covidmm.plugins import hookimpl

def numbers(study, count):
    digest = hashlib.sha256(study.identifier.encode()).digest()
    return np.frombuffer(digest[:count], np.uint8) / 255

class Kinds:
    classes = ("clear", "dense", "unsure")
    negative = "clear"
    uses_pixels = uses_detections = False

    def classify(self, study):
        values = numbers(study, 3) + 0.01
        return values / values.sum()

class Findings:
    classes = ("Effusion", "Mass", "Nodule", "Fibrosis", "Hernia")
    multi_label = True
    uses_pixels = uses_detections = False

    def classify(self, study):
        return numbers(study, 5)

class Torn(Findings):
    def classify(self, study):
        return numbers(study, 5) * 3

class Twice(Findings):
    classes = ("Mass", "Mass")

@hookimpl
def covidmm_study_classifiers():
    return {"kinds": Kinds, "findings": Findings, "torn": Torn, "twice": Twice}
"""
CONFIG = """
_base_ = "{base}"
study, none = dict(_delete_=True, type="{kind}"), dict(_delete_=True, rule="{rule}")
class_codes = dict(Mass=("4147007", "SCT", "Mass"), clear=("17621005", "SCT", "Normal"))
"""
CLASSES = {"kinds": ("clear", "dense", "unsure"), "findings": ("Effusion", "Mass", "Nodule", "Fibrosis", "Hernia")}


def labels_of(study, kind):
    """The truth: by the number of the study. Nothing has a hernia."""
    number = int(study.removeprefix("study"))
    if kind == "kinds":
        return [("clear", "dense", "unsure")[number % 3]]
    return [name for bit, name in enumerate(CLASSES["findings"][:4]) if number >> bit & 1]


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory):
    """A package that is found by its entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "study_labels_plugin.py").write_text(PLUGIN)
    (site / "study_labels_plugin-1.dist-info").mkdir()
    (site / "study_labels_plugin-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: study-labels-plugin\n")
    (site / "study_labels_plugin-1.dist-info/entry_points.txt").write_text("[covidmm]\nlabels = study_labels_plugin\n")
    sys.path.insert(0, str(site))
    yield
    sys.path.remove(str(site))


@pytest.fixture(scope="module")
def made(random_ensemble, tmp_path_factory):
    """By classifier: a prepared folder with its labels, scored; and the Structured Reports of two studies."""
    predictions, found = tmp_path_factory.mktemp("predictions"), {}
    phantoms = tmp_path_factory.mktemp("phantoms")  # whose files have UIDs of their own
    write_phantoms(phantoms / "raw", 2, seed=0, size=(160, 200), workers=1)
    for file in (phantoms / "raw").rglob("*.dcm"):
        shutil.move(file, phantoms)
    shutil.rmtree(phantoms / "raw")
    for kind, rule in (("kinds", "blend"), ("findings", "no_box")):
        folder = tmp_path_factory.mktemp(kind)
        shutil.copytree(random_ensemble.prepared, folder / "prepared")
        for path in (folder / "prepared/annotations").glob("*.json"):
            content = json.loads(path.read_text())
            for image in content["images"]:
                image |= {"labels": labels_of(image["study_id"], kind), "study_class": None}
            path.write_text(json.dumps(content))
        config = folder / f"{kind}.py"
        config.write_text(CONFIG.format(base=random_ensemble.config, kind=kind, rule=rule))
        shutil.copytree(predictions, folder / "scored")
        request = Request(str(config), str(folder / "prepared"), predictions=str(folder / "scored"), score=True)
        outcome = ensemble(request)
        if kind == "kinds":  # the other's members need not predict again
            shutil.copytree(folder / "scored", predictions, dirs_exist_ok=True)
        ensemble(Request(str(config), str(phantoms), predictions=str(folder / "dicom"), sr=str(folder / "sr")))
        found[kind] = SimpleNamespace(folder=folder, config=config, outcome=outcome)
    return found


def scored(made, kind):
    """Truth (N, C), probabilities (N, C) and metrics of the test split."""
    one = made[kind]
    studies = one.outcome.studies
    targets = np.array([[name in labels_of(study, kind) for name in CLASSES[kind]] for study in studies])
    metrics = json.loads((one.folder / "scored/test/metrics.json").read_text())["study"]
    return targets, np.array(list(studies.values())), metrics


def test_scores_of_several_labels_are_scikit_learn_s(made):
    targets, values, metrics = scored(made, "findings")
    assert metrics["multi_label"] is True
    assert metrics["classes"] == list(CLASSES["findings"])
    areas = []
    for index, name in enumerate(CLASSES["findings"]):
        own = metrics["per_class"][name]
        assert own["count"] == targets[:, index].sum()
        if 0 < own["count"] < len(targets):
            areas.append(roc_auc_score(targets[:, index], values[:, index]))
            assert own["auroc"] == pytest.approx(areas[-1])
            assert own["ap"] == pytest.approx(average_precision_score(targets[:, index], values[:, index]))
    assert len(areas) >= 3
    assert "Hernia" in metrics["absent"]
    assert metrics["auroc"] == pytest.approx(np.mean(areas))
    low, high = metrics["mAP_interval"]
    assert low <= metrics["mAP"] <= high
    assert "ece" not in metrics


def test_scores_of_one_class_are_scikit_learn_s(made):
    targets, values, metrics = scored(made, "kinds")
    assert metrics["classes"] == list(CLASSES["kinds"])
    true, found = targets.argmax(1), values.argmax(1)
    assert metrics["accuracy"] == pytest.approx((true == found).mean())
    assert metrics["f1"] == pytest.approx(f1_score(true, found, average="macro", labels=np.unique(true)))
    assert 0 <= metrics["ece"] <= 1
    assert np.sum(metrics["confusion"]["counts"]) == metrics["cases"] == len(targets)


@pytest.mark.parametrize("kind", CLASSES)
def test_files_say_what_the_probabilities_stand_for(made, kind):
    one = made[kind]
    with (one.folder / "scored/test/study.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["study_id", *CLASSES[kind]]
    assert {row[0]: [float(value) for value in row[1:]] for row in rows} == one.outcome.studies
    origin = json.loads((one.folder / "scored/test/study.json").read_text())["made_from"]
    assert (origin["study_classes"], origin["multi_label"]) == (list(CLASSES[kind]), kind == "findings")
    # Kaggle's file has rows of SIIM's classes alone
    submission = read_submission(one.folder / "scored/test/submission.csv")
    assert not [name for name in submission if name.endswith("_study")]
    assert len(submission) == len(one.outcome.run.cases)


def test_none_takes_the_class_that_says_so(made):
    """By the rule 'blend': half of it is the probability of 'clear'."""
    outcome = made["kinds"].outcome
    rows = read_submission(made["kinds"].folder / "scored/test/submission.csv")
    for image, found in outcome.fused:
        wanted = 0.5 * np.prod(1 - found.scores.astype(float)) + 0.5 * outcome.studies[image.study_id][0]
        assert rows[f"{image.image_id}_image"][-1].score == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_report_has_a_row_for_each_class(made, kind, tmp_path):
    page = report([made[kind].folder / "scored"], [], tmp_path).read_text()
    for name in CLASSES[kind]:
        assert f'<th scope="row">{name}</th>' in page
    assert ("Confusion of the classes" in page) == (kind == "kinds")
    assert "atypical" not in page
    unscored = report([made[kind].folder / "dicom"], [], tmp_path / "unscored").read_text()
    assert f"Studies were classified ({', '.join(CLASSES[kind])}) and not scored." in unscored


@pytest.mark.parametrize("kind", CLASSES)
def test_structured_reports_have_the_codes_of_the_config(made, kind):
    files = sorted((made[kind].folder / "sr").iterdir())
    assert len(files) == 2
    text = pydicom.dcmread(files[0]).to_json()
    for name in CLASSES[kind]:
        assert f"study class {name}" in text
    assert ("17621005" in text) == (kind == "kinds")
    assert ("4147007" in text) == (kind == "findings")
    lacking = ", ".join(name for name in CLASSES[kind] if name not in ("clear", "Mass"))
    assert f"no public code was given for {lacking}: the codes of 99COVIDMM are private" in text
    assert "COVID-19" not in text


@pytest.mark.parametrize("kind", CLASSES)
def test_the_api_answers_with_the_classes(made, kind, random_ensemble):
    file = next((random_ensemble.raw / "train/study001").rglob("*.dcm")).read_bytes()
    with IsolatedReader(20, 4 * 2**30) as reader:
        service = Service(Predictor.from_config(made[kind].config, device="cpu"), reader)
        client = TestClient(create_app(service, Settings()))
        assert client.get("/api/v1/models").json()["study_classes"] == list(CLASSES[kind])
        answer = client.post("/api/v1/predict", files=[("files", ("a.dcm", file))]).json()
    study = answer["study"]
    assert list(study["probabilities"]) == list(CLASSES[kind])
    values = np.array(list(study["probabilities"].values()))
    if kind == "kinds":
        assert study["present"] == [study["predicted"]] == [CLASSES[kind][values.argmax()]]
    else:
        assert study["predicted"] is None
        assert study["present"] == [name for name, value in study["probabilities"].items() if value >= 0.5]
    assert study["multi_label"] == (kind == "findings")
    assert [row["id"] for row in answer["submission"]] == ["image1_image"]


@pytest.mark.parametrize(
    ("kind", "rule", "error", "message"),
    [
        (
            "findings",
            "blend",
            ConfigError,
            "'blend' needs a study classifier with a class for nothing there, not of Eff",
        ),
        (
            "twice",
            "no_box",
            PluginError,
            r"study classifier 'twice': classes: a name stands twice in \('Mass', 'Mass'\)",
        ),
        (
            "torn",
            "no_box",
            PluginError,
            "study 'study.*': the study classifier answered .*, not 5 probabilities, of Ef",
        ),
    ],
)
def test_what_cannot_be_is_one_line(made, random_ensemble, tmp_path, kind, rule, error, message):
    config = tmp_path / "bad.py"
    config.write_text(CONFIG.format(base=random_ensemble.config, kind=kind, rule=rule))
    shutil.copytree(made["kinds"].folder / "scored", tmp_path / "scored")
    with pytest.raises(error, match=message):
        ensemble(Request(str(config), str(random_ensemble.prepared), predictions=str(tmp_path / "scored")))


def test_a_sample_submission_needs_rows_of_studies(made, tmp_path):
    one, sample = made["kinds"], tmp_path / "sample.csv"
    cases = one.outcome.run.cases.images
    write_submission(
        sample,
        {case.study_id: study_row(None) for case in cases},
        {case.image_id: image_row(None) for case in cases},
    )
    data = str(one.folder / "prepared")
    with pytest.raises(ConfigError, match=f"--sample: {sample}: has rows of studies, of SIIM's classes"):
        ensemble(Request(str(one.config), data, predictions=str(one.folder / "scored"), sample=str(sample)))
