import os
import subprocess
import sys
from pathlib import Path

import pytest

from covidmm import cli
from covidmm.commands import configs_command
from covidmm.engine.config import load_config
from covidmm.errors import ConfigError
from covidmm.utils.command_line import command_line, shown_command

ROOT = Path(__file__).parents[1]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("[!_]*.py"))


def test_every_word_has_a_tool_and_every_tool_a_word():
    assert sorted("convert_checkpoint" if word == "convert" else word for word in cli.COMMANDS) == TOOLS
    for word in cli.COMMANDS:
        tool = Path(command_line(word)[1])
        assert tool.is_file()
        assert f'run_command("{word}")' in tool.read_text()
        assert tool.read_text().splitlines()[1] in cli._module(word).__doc__.join(['"""', '"""'])
    assert shown_command("convert") == "tools/convert_checkpoint.py"


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_every_word_has_help(word, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([word, "--help"])
    assert ended.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"usage: covidmm {word}")
    assert cli.NOTICE in out


def test_without_a_word_the_words_are_listed(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n    {word} " in out or f"\n    {word}\n" in out for word in cli.COMMANDS)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["trian"])


def test_a_wrong_config_is_one_line_and_an_exit_code(capsys):
    assert cli.main(["configs", "show", "covidmm::smal/frcnn_r18_siim.py"]) == 1
    assert capsys.readouterr().err.startswith("error: covidmm::smal/frcnn_r18_siim.py: covidmm has no such config")


def test_the_reader_of_a_pipe_may_leave():
    """As in ``covidmm configs | head -1``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "covidmm", "configs"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_configs_are_listed_with_a_line_each(capsys):
    cli.main(["configs"])
    lines = capsys.readouterr().out.splitlines()
    paths = [path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    assert {line.split()[0] for line in lines} >= {
        f"covidmm::{p.relative_to(ROOT / 'configs').as_posix()}" for p in paths
    }
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", ["covidmm::small/yolov5n_siim.py", "covidmm::phantom/ensemble_wbf_phantom.py"])
def test_a_shown_config_is_a_whole_config(name, tmp_path):
    text = configs_command.resolved_text(name, ["max_size=600"] if "ensemble" in name else ["train_cfg.max_epochs=7"])
    compile(text, "shown", "exec")
    values: dict = {}
    exec(text, values)
    assert values.get("max_size") == 600 or values["train_cfg"]["max_epochs"] == 7


def test_a_config_of_ones_own_begins_as_a_copy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["configs", "copy", "covidmm::small/yolov5n_siim.py"]) == 0
    assert load_config("yolov5n_siim.py").model == load_config("covidmm::small/yolov5n_siim.py").model
    assert cli.main(["configs", "copy", "yolov5n_siim.py", "mine.py"]) == 0
    assert load_config("mine.py").model == load_config("yolov5n_siim.py").model
    with pytest.raises(ConfigError, match=r"mine\.py: is there already"):
        configs_command.begin_config("yolov5n_siim.py", Path("mine.py"))
