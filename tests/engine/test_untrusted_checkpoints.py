"""A checkpoint that would run something when it is unpickled, by every entry point that reads one: nothing runs."""

import io
import os
import pickle
import tarfile
from dataclasses import replace

import pytest
import torch

from covidmm.audit import lung_attention as attention
from covidmm.engine.config import load_config
from covidmm.errors import CheckpointError
from covidmm.inference.detector import Detector
from covidmm.inference.export import to_onnx
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.jobs.train_test import evaluate, train
from covidmm.models.checkpoint_conversion import convert_plain, convert_resnet, convert_yolov5
from covidmm.models.publishing import publish
from covidmm.reports.attention_pictures import attention_pictures
from covidmm.studies.network import NetworkClassifier

STUDY = "configs/phantom/study_r18_phantom.py"
FRCNN = "configs/phantom/frcnn_r18_phantom.py"
QUICK = ["train_cfg.max_epochs=1", *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test"))]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim):
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


def tarred(content):
    """torch's oldest format: a tar, whose pickles torch unpacks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def saved(zipped):
    def write(content):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        return buffer.getvalue()

    return write


FORMATS = {"zip": saved(True), "legacy": saved(False), "pickle": pickle.dumps, "tar": tarred}
# each has a reader of its own; all others use one of these
READERS = ("load_from", "Pretrained", "publish", "convert yolov5", "convert torchvision", "convert plain")


@pytest.fixture(autouse=True)
def surroundings(random_ensemble, tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path / "store"))
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))


def entry_points(random_ensemble, tmp_path):
    """Every call of covidmm's that reads a checkpoint ``evil.pth``, which lies in the store and is an epoch's, too."""
    evil, run, out = tmp_path / "store/evil.pth", tmp_path / "run", tmp_path / "out.pth"
    member = random_ensemble.members["yolo"]
    request = Request(
        str(random_ensemble.config),
        str(random_ensemble.raw),
        predictions=str(tmp_path / "predictions"),
        cfg_options=(f"members.yolo.checkpoint={evil}",),
    )
    return {
        "load_from": lambda: train(STUDY, run, options=[*QUICK, f"load_from={evil}"]),
        "load_from of the store": lambda: train(STUDY, run, options=[*QUICK, "load_from=covidmm://evil"]),
        "resume": lambda: train(STUDY, tmp_path / "resumed", True, options=QUICK),
        "resume from a file": lambda: train(STUDY, run, evil, options=QUICK),
        "Pretrained": lambda: train(
            STUDY, run, options=[*QUICK, "model.init_cfg.type=Pretrained", f"model.init_cfg.checkpoint={evil}"]
        ),
        "test": lambda: evaluate(STUDY, evil, run, options=QUICK),
        "test of a work dir": lambda: evaluate(STUDY, tmp_path / "resumed", run, options=QUICK),
        "export": lambda: to_onnx(FRCNN, str(evil)),
        "publish": lambda: publish(evil, "name"),
        "convert yolov5": lambda: convert_yolov5(evil, out),
        "convert torchvision": lambda: convert_resnet(evil, out, "torchvision"),
        "convert plain": lambda: convert_plain(evil, out),
        "member": lambda: Detector(replace(member, checkpoint=str(evil)), "yolo"),
        "member of the store": lambda: Detector(replace(member, checkpoint="covidmm://evil"), "yolo"),
        "ensemble": lambda: ensemble(request),
        "study classifier": lambda: NetworkClassifier(STUDY, str(evil)),
        "pictures of attention": lambda: next(attention_pictures(load_config(STUDY), evil)),
        "audit": lambda: attention._classifier(STUDY, str(evil)),
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_nothing_runs_at_any_entry_point(random_ensemble, tmp_path, form):
    victim = tmp_path / "victim"
    data = FORMATS[form]({"state_dict": {"a": torch.ones(1)}, "meta": {"epoch": 1}, "extra": Evil(victim)})
    for path in (tmp_path / "store/evil.pth", tmp_path / "resumed/epoch_1.pth"):
        path.parent.mkdir()
        path.write_bytes(data)
    (tmp_path / "resumed/last_checkpoint").write_text(str(tmp_path / "resumed/epoch_1.pth"))
    every = entry_points(random_ensemble, tmp_path)
    for name, read in every.items() if form == "zip" else ((name, every[name]) for name in READERS):
        with pytest.raises(CheckpointError) as caught:
            read()
        assert "\n" not in str(caught.value), name
        assert not victim.exists(), name
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_program_in_a_checkpoint_is_not_run_where_a_training_is_resumed(tmp_path):
    run = train(STUDY, tmp_path / "run", options=QUICK)
    content = torch.load(run / "epoch_1.pth", weights_only=True)
    # MMEngine's Runner.resume reads it by Config.fromstring, which executes it
    content["meta"]["config"] = f"import os\nos.mkdir({str(tmp_path / 'victim')!r})\n"
    torch.save(content, tmp_path / "mailed.pth")
    train(STUDY, tmp_path / "other", tmp_path / "mailed.pth", options=QUICK)
    assert not (tmp_path / "victim").exists()


def test_weights_alone_cannot_be_resumed(random_ensemble, tmp_path):
    checkpoint = random_ensemble.members["yolo"].checkpoint
    options = ["train_cfg.max_epochs=1", "train_dataloader.num_workers=0"]
    with pytest.raises(CheckpointError, match="cannot be resumed, it holds no epoch, iter, optimizer, message_hub"):
        train("configs/phantom/yolov5n_phantom.py", tmp_path / "run", checkpoint, options=options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("part", "value"), [("optimizer", {}), ("param_schedulers", 5), ("message_hub", {}), ("state_dict", {"a": 1})]
)
def test_a_training_s_checkpoint_of_odd_content_is_named(tmp_path, part, value, odd):
    content = torch.load(odd, weights_only=True)
    content[part] = value
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: ") as caught:
        train(STUDY, tmp_path / "run", tmp_path / "odd.pth", options=QUICK)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def odd(random_ensemble, tmp_path_factory, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        patch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
        return train(STUDY, tmp_path_factory.mktemp("odd"), options=QUICK) / "epoch_1.pth"


@pytest.mark.filterwarnings("ignore")
def test_a_bare_state_dict_is_tested(random_ensemble, tmp_path):
    content = torch.load(random_ensemble.members["yolo"].checkpoint, weights_only=True)
    torch.save(content["state_dict"], tmp_path / "bare.pth")
    options = ["test_dataloader.num_workers=0"]
    found = evaluate("configs/phantom/yolov5n_phantom.py", tmp_path / "bare.pth", tmp_path / "run", options=options)
    assert found["images"]


def test_the_same_file_would_have_run_it(tmp_path):
    victim = tmp_path / "victim"
    torch.save({"extra": Evil(victim)}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert victim.is_dir()
