"""Prepared phantoms for every config."""

import os

from benchmarks.phantoms import ROOTS, found_by_configs, prepare_phantoms

from covidmm.engine.config import load_config


def test_configs_of_all_three_data_sets_find_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SIIM_ROOT", "before")
    monkeypatch.delenv("NIH_ROOT", raising=False)
    with found_by_configs(tmp_path):
        for config in ("frcnn_r18_siim", "r18_nih"):
            dataset = load_config(f"configs/small/{config}.py").val_dataloader.dataset
            assert dataset.data_root == str(tmp_path)
        assert {os.environ[name] for name in ROOTS} == {str(tmp_path)}
    assert os.environ["SIIM_ROOT"] == "before"
    assert "NIH_ROOT" not in os.environ


def test_they_are_of_the_size_asked_for_and_carry_labels(tmp_path):
    import json

    prepared = prepare_phantoms(tmp_path, studies=6, side=160)
    files = list((prepared / "annotations").glob("*.json"))
    images = [image for file in files for image in json.loads(file.read_text())["images"]]
    assert len(images) >= 6
    assert {max(image["width"], image["height"]) for image in images} == {160}
    assert all(image["labels"] == ["No Finding"] for image in images)
