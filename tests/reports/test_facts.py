from pathlib import Path

from covidmm.reports.facts import Difference, config_difference, differences, parse_config, run_facts
from covidmm.reports.runs import find_file, find_runs


def test_differences_are_by_dotted_key_and_circumstances_do_not_count():
    base = {"a": {"b": 1, "c": [1, 2]}, "work_dir": "x", "gone": 1}
    own = {"a": {"b": 2, "c": (1, 2)}, "work_dir": "y", "new": {"deep": "z"}}
    assert differences(base, own) == [
        Difference("a.b", "1", "2"),
        Difference("gone", "1", None),
        Difference("new.deep", None, '"z"'),
    ]


def test_lists_of_dicts_are_compared_item_by_item_whatever_the_order_of_their_keys():
    base = {"pipeline": [{"type": "A", "p": 1}, {"type": "B"}], "other": [{"a": 1}]}
    own = {"pipeline": [{"p": 1, "type": "A"}, {"type": "B", "p": 2}], "other": [{"a": 1}, {"a": 2}]}
    assert differences(base, own) == [
        Difference("pipeline.1.p", None, "2"),
        Difference("other", '[{"a": 1}]', '[{"a": 1}, {"a": 2}]'),
    ]
    assert differences({"a": {"b": 1}}, {"a": None}) == [Difference("a", '{"b": 1}', "null")]


def test_a_run_is_compared_with_the_base_that_its_file_names(world):
    (run,) = find_runs([world.run]).runs
    assert config_difference(run) == [
        Difference("train_cfg.max_epochs", "50", "4"),
        Difference("optimizer.lr", "0.01", "0.02"),
    ]


def test_what_cannot_be_compared_is_a_sentence(world):
    (run,) = find_runs([world.run]).runs
    (world.root / "configs" / "base.py").write_text("a = (")
    assert "cannot be compared" in config_difference(run)
    (world.root / "configs" / "frcnn_small.py").write_text("a = 1")
    assert "inherits no other config" in config_difference(run)
    (world.root / "configs" / "frcnn_small.py").unlink()
    assert "is not here" in config_difference(run)
    (world.run / "frcnn_small.py").unlink()
    assert config_difference(find_runs([world.run]).runs[0]) == "The run left no config."


def test_facts_name_hashes_versions_machine_time_and_git(world):
    (run,) = find_runs([world.run]).runs
    facts = dict(run_facts(run))
    assert facts["duration"] == "4:00:00"
    assert facts["epochs"] == "4 of 4"
    assert facts["seed"] == "0"
    assert facts["Python"] == "3.11.7"
    assert "sha256 " in facts["checkpoint"]
    assert "sha256 " in facts["data"]
    assert facts["versions"] == "covidmm 0, torch 2"
    assert facts["machine"] == "Linux, 2 processors, no GPU"
    assert facts["git"] == "cafe+changes"


def test_a_run_that_is_going_on_tells_the_time_left(world):
    whole = world.scalars.read_text().splitlines()
    world.scalars.write_text("\n".join(whole[:6]))
    (world.run / "metrics.json").unlink()
    facts = dict(run_facts(find_runs([world.run]).runs[0]))
    assert facts["epochs"].startswith("2 of 4, 0:06:44 left")
    assert facts["tested"].startswith("not yet")
    assert facts["checkpoint"].startswith("best_epoch_2.pth, sha256 ")


def test_a_recorded_path_is_found_from_where_the_run_lies(world, monkeypatch):
    assert find_file("data/small", world.run) == world.root.resolve() / "data/small"
    monkeypatch.chdir(world.root)
    assert find_file("data/small", Path("/nowhere")) == Path("data/small")
    assert find_file("data/none", world.run) is None


def test_a_config_that_is_none_is_empty():
    assert parse_config("a = dict(b=1)\ncustom_imports = dict(imports=['no_such_module'])")["a"] == {"b": 1}
    assert parse_config("a = (") == {}


def test_a_dumped_config_is_read_as_it_was_written():
    from mmengine.config import Config

    written = {"a": {"b": -1.5, "c": (1, [None, True])}, "d": {"0": "x'y", "e-f": ""}, "g": [{"type": "A"}]}
    assert parse_config(Config(written).pretty_text) == written


def test_no_config_that_lies_beside_a_run_or_in_a_checkpoint_is_executed(world, tmp_path):
    victim = tmp_path / "victim"
    trap = f"import os\nos.makedirs({str(victim)!r}, exist_ok=True)\na = 1\n"
    assert parse_config(trap) == {}
    (world.root / "configs" / "base.py").write_text(trap)
    (run,) = find_runs([world.run]).runs
    assert "executes no config but covidmm's own" in config_difference(run)
    (world.run / "frcnn_small.py").write_text(trap)
    (run,) = find_runs([world.run]).runs
    run_facts(run)
    assert "executes no config but covidmm's own" in config_difference(run)
    assert not victim.exists()
