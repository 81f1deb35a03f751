"""A classifier's checkpoint with other classes or another backbone, by every entry point that reads one."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.errors import CheckpointError
from covidmm.jobs.train_test import evaluate, train
from covidmm.models.publishing import publish
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.studies.network import NetworkClassifier

pytestmark = pytest.mark.e2e  # trains
CONFIG = "configs/phantom/study_r18_phantom.py"
QUICK = [
    "train_cfg.max_epochs=1",
    *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
]


@pytest.fixture(scope="module")
def folder(make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    prepare("siim", make.siim(folder / "raw", studies=16), folder / "data", Options(workers=1, progress=False))
    return folder


@pytest.fixture(autouse=True)
def surroundings(folder, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(folder / "store"))
    monkeypatch.setenv("SIIM_ROOT", str(folder / "data"))


def state(config=CONFIG, **backbone):
    """A state dict of a config's model, random."""
    init_default_scope("mmdet")
    model = load_config(config).model
    model.backbone.update(backbone)
    return MODELS.build(model).state_dict()


def save(path, content):
    torch.save({"state_dict": content}, path)
    return path


@pytest.fixture(scope="module")
def wrong(folder, request):
    """Checkpoints that do not fit, and what must be said of them."""
    whole = state()
    backbone = {name: value for name, value in whole.items() if name.startswith("backbone.")}
    return {
        "of 15 findings": (state("configs/small/r18_nih.py"), r"2 of another shape \(head\.3\.weight, head\.3\.bias\)"),
        "without a head": (backbone, r"4 missing \(head\.0\.weight, .*no head\?"),
        "of a ResNet-50": (state(depth=50), r"at least 95% is required"),
    }


@pytest.mark.parametrize("kind", ["of 15 findings", "without a head", "of a ResNet-50"])
def test_a_model_that_predicts_must_be_filled_whole(wrong, kind, tmp_path):
    content, message = wrong[kind]
    path = save(tmp_path / "a.pth", content)
    for read in (
        lambda: evaluate(CONFIG, path, tmp_path / "run", options=QUICK),
        lambda: NetworkClassifier(CONFIG, str(path)),
    ):
        with pytest.raises(CheckpointError, match=rf"a\.pth: does not fit the model: .*{message}") as raised:
            read()
        assert "\n" not in str(raised.value)


def test_training_starts_from_other_classes_with_a_new_last_layer_and_says_so(wrong, tmp_path):
    content, _ = wrong["of 15 findings"]
    path = save(tmp_path / "a.pth", content)
    # a name of its own: MMEngine takes runs of one config that begin in the same second for one, with one log
    options = [*QUICK, f"load_from={path}", "experiment_name=other_classes"]
    run = train(CONFIG, tmp_path / "run", options=options)
    log = next(run.glob("*/*.log")).read_text()
    assert f"checkpoint {path}: 100.0% of " in log
    assert "2 of another shape (head.3.weight, head.3.bias)" in log


def test_training_does_not_start_from_another_backbone(wrong, tmp_path):
    path = save(tmp_path / "a.pth", wrong["of a ResNet-50"][0])
    with pytest.raises(CheckpointError, match=r"a\.pth: does not fit the model: \d.*at least 95% is required"):
        train(CONFIG, tmp_path / "run", options=[*QUICK, f"load_from={path}"])


def test_a_published_backbone_of_another_depth_is_refused_by_name(wrong, tmp_path):
    publish(save(tmp_path / "a.pth", wrong["of a ResNet-50"][0]), "r18_nih", replace=True)
    with pytest.raises(CheckpointError, match="covidmm://r18_nih: does not fit the model"):
        train("configs/small/study_r18_siim.py", tmp_path / "run", options=[*QUICK, "pretrained=nih"])


def test_a_published_backbone_with_other_classes_fits(wrong, tmp_path):
    publish(save(tmp_path / "a.pth", wrong["of 15 findings"][0]), "r18_nih", replace=True)
    run = train("configs/small/study_r18_siim.py", tmp_path / "run", options=[*QUICK, "pretrained=nih"])
    assert "checkpoint covidmm://r18_nih: 100.0% of " in next(run.glob("*/*.log")).read_text()
