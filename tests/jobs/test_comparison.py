"""Several configs trained and compared."""

import csv
import json
from pathlib import Path

import pytest

from covidmm.errors import CheckpointError, ConfigError, TrainingError
from covidmm.jobs import comparison
from covidmm.jobs.comparison import PICTURE, TABLE, format_rows, train_and_compare, write_comparison
from covidmm.jobs.train_test import evaluate
from covidmm.reports.runs import find_runs

SMALL = Path("configs/small/study_r18_siim.py").resolve()


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def write_run(folder, losses, maps):
    """The scalars that a training writes."""
    lines = [
        {"step": epoch, "study/accuracy": 0.5, "study/f1": 0.4, "study/mAP": value, "val_loss": loss}
        for epoch, (loss, value) in enumerate(zip(losses, maps, strict=True), start=1)
    ]
    path = folder / "20260101_000000/vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / f"epoch_{len(lines)}.pth").touch()


def test_the_table_has_the_lowest_loss_and_the_last_and_best_metrics(tmp_path):
    write_run(tmp_path / "a", [0.9, 0.7, 0.8], [0.1, 0.3, 0.2])
    write_run(tmp_path / "b", [0.6], [0.5])
    (tmp_path / "c").mkdir()
    columns, rows = write_comparison(tmp_path, ["b", "a", "c", "d"])
    with (tmp_path / TABLE).open() as file:
        table = {row["config"]: row for row in csv.DictReader(file)}
    assert list(table) == ["b", "a"]
    row = table["a"]
    assert (row["epochs"], row["min val loss"], row["at epoch"]) == ("3", "0.7", "2")
    assert (row["last mAP"], row["best mAP"], row["last F1"]) == ("0.2", "0.3", "0.4")
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
    lines = format_rows(columns, rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.7000" in lines[2]


def test_without_a_validation_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(CheckpointError, match="no run of a, b has finished a validation"):
        write_comparison(tmp_path, ["a", "b"])


def named(tmp_path, *names):
    for name in names:
        (tmp_path / f"{name}.py").write_text(f'_base_ = "{SMALL}"\ntrain_cfg = dict(max_epochs=2)\n')
    return [tmp_path / f"{name}.py" for name in names]


def test_what_is_finished_is_left_out_and_what_fails_stops_no_other(tmp_path, monkeypatch, capsys):
    begun = []

    def train(config, folder, resume, *_):
        begun.append((Path(config).stem, resume))
        if Path(config).stem == "bad":
            raise ConfigError("optim_wrapper.optimizer.lr is 0")
        write_run(folder, [0.5, 0.4], [0.1, 0.2])

    monkeypatch.setattr(comparison, "train", train)
    configs = named(tmp_path, "done", "bad", "half", "new")
    write_run(tmp_path / "runs/done", [0.9, 0.8], [0.1, 0.2])
    (tmp_path / "runs/half").mkdir()
    (tmp_path / "runs/half/epoch_1.pth").touch()
    with pytest.raises(TrainingError, match="1 of 4 configs could not be trained, bad: optim_wrapper"):
        train_and_compare(configs, tmp_path / "runs", resume=True)
    assert begun == [("bad", False), ("half", True), ("new", False)]
    printed = capsys.readouterr().out
    assert "done: finished, left out" in printed
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["done", "half", "new"]


def test_bad_configs_are_found_before_the_first_training(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "train", None)
    (tmp_path / "b.py").write_text(f'_base_ = "{SMALL}"\ntrian_cfg = dict(max_epochs=2)\n')
    with pytest.raises(ConfigError, match="did you mean 'train_cfg'"):
        train_and_compare([*named(tmp_path, "a"), tmp_path / "b.py"], tmp_path)
    with pytest.raises(ConfigError, match="a: two configs of that name"):
        train_and_compare([*named(tmp_path, "a"), *named(tmp_path, "a")], tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_two_small_study_classifiers_are_trained_each_into_its_own_folder(random_ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("SIIM_ROOT", str(random_ensemble.prepared))
    configs = named(tmp_path, "dropout50", "dropout70")
    with configs[1].open("a") as file:
        file.write("model = dict(dropout=0.7)\n")
    options = ["pretrained=none", "train_cfg.max_epochs=1", "train_dataloader.dataset.indices=15"]
    options += [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
    folder = train_and_compare(configs, tmp_path / "runs", options=options)
    evaluate(configs[0], folder / "dropout50", tmp_path / "tested", options=options)
    found = find_runs([folder]).runs
    assert [run.name for run in found] == ["dropout50", "dropout70"]
    for run in found:
        assert [one["step"] for one in run.val] == [1]
        assert run.train
        assert list(run.folder.rglob("events.out.tfevents.*"))
        assert "Epoch(train)" in run.log.read_text()
    assert not [*(tmp_path / "tested").rglob("epoch_*.pth")]
    assert "Epoch(test)" in next((tmp_path / "tested").rglob("*.log")).read_text()
    assert "Epoch(test)" not in found[0].log.read_text() + found[1].log.read_text()
    assert len((folder / TABLE).read_text().splitlines()) == 3
