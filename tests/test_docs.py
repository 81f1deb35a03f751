"""Every command on a page is run, or is marked as needing the full data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MARKER = "<!-- needs: full data -->"
# The steps of `make demo`, which acceptance runs.
MARKERS = frozenset({MARKER, "<!-- needs: ten minutes -->"})
# Run by .ci/run and by the acceptance on a fresh clone, not again from within `make test`.
MAKE_TARGETS = frozenset({"setup", "demo", "check", "test", "docs", "lint"})
# A command in one of these would escape the rule.
UNRULED = frozenset({"", "sh", "shell", "zsh", "console", "shell-session", "{code-block} bash", "{code-block} console"})


@dataclass(frozen=True)
class Fence:
    """A fenced block: its line (from 1), info string, commands (continued lines joined), and whether it is marked."""

    line: int
    language: str
    commands: tuple[str, ...]
    marked: bool


def fences(text: str) -> list[Fence]:
    """The fenced blocks of a Markdown text; ValueError on an unclosed one, or a marker that is not right above one."""
    found, lines, number = [], text.splitlines(), 0
    markers = {index for index, line in enumerate(lines) if line.strip() in MARKERS}
    while number < len(lines):
        opening = re.fullmatch(r"\s*(`{3,}|~{3,})\s*(.*?)\s*", lines[number])
        if not opening:
            number += 1
            continue
        start, fence = number, opening[1]
        number += 1
        while number < len(lines) and not re.fullmatch(rf"\s*{fence[0]}{{{len(fence)},}}\s*", lines[number]):
            number += 1
        if number == len(lines):
            raise ValueError(f"line {start + 1}: the block is not closed")
        body = "\n".join(lines[start + 1 : number]).replace("\\\n", " ")
        commands = tuple(c for c in map(str.strip, body.splitlines()) if c and not c.startswith("#"))
        found.append(Fence(start + 1, opening[2], commands, start - 1 in markers))
        markers.discard(start - 1)
        number += 1
    if markers:
        raise ValueError(f"line {min(markers) + 1}: the marker is not right above a block")
    return found


def runnable(text: str) -> list[str]:
    """The unmarked bash commands in their order, make targets that are run elsewhere left out."""
    commands = [c for fence in fences(text) if fence.language == "bash" and not fence.marked for c in fence.commands]
    return [c for c in commands if c not in {f"make {target}" for target in MAKE_TARGETS}]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_rule_sorts_commands():
    page = f"a\n```bash\nmake demo\n# why\ntools/a.py \\\n  --b c\n```\n\n{MARKER}\n```bash\ntools/full.py\n```\n"
    page += "```python\nprint()\n```\n```bash\nmake clean\nmake demo && x\n```\n"
    assert runnable(page) == ["tools/a.py    --b c", "make clean", "make demo && x"]
    assert [(f.line, f.language, f.marked) for f in fences(page)] == [
        (2, "bash", False),
        (10, "bash", True),
        (13, "python", False),
        (16, "bash", False),
    ]


@pytest.mark.parametrize(
    "page",
    [f"{MARKER}\n\n```bash\nx\n```\n", f"```bash\nx\n```\n{MARKER}\n", "```bash\nx\n"],
    ids=["a blank line between", "below", "not closed"],
)
def test_a_marker_marks_only_the_block_right_below_it(page):
    with pytest.raises(ValueError, match=r"line [14]: the"):
        fences(page)


def test_the_rule_finds_the_pages_and_their_commands():
    assert {"README.md", "CONTRIBUTING.md", "docs/get-started.md", "docs/data.md"} <= set(map(relative, PAGES))
    assert any(runnable(page.read_text()) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_stand_in_bash_blocks_only(page):
    assert not [fence for fence in fences(page.read_text()) if fence.language in UNRULED]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_marked_commands_name_tools_configs_and_options_that_exist(page):
    for fence in fences(page.read_text()):
        for command in fence.commands if fence.marked else ():
            for path in re.findall(r"(?:tools|configs)/\S+\.py", command):
                assert any(ROOT.glob(path)), f"{relative(page)}:{fence.line}: no {path}"
            if tool := re.match(r"(?:tools/|covidmm )([a-z]+)", command):
                parser = (ROOT / f"covidmm/commands/{tool[1]}_command.py").read_text()
                for option in re.findall(r"\s(--[a-z-]+)", command):
                    assert f'"{option}"' in parser, f"{relative(page)}:{fence.line}: {option}"


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets >= MAKE_TARGETS


def test_the_pages_say_what_the_software_is_not():
    # conf.py puts it on every page of the site
    for name in ("README.md", "docs/limits.md", "docs/conf.py"):
        assert "research software, not a medical device" in (ROOT / name).read_text().lower(), name


@pytest.mark.e2e
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page.read_text())], ids=relative)
def test_the_commands_of_a_page_run_in_their_order(page, tmp_path):
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    # No setting of the person who runs the tests may help a command that would fail for a reader.
    env = {key: value for key, value in os.environ.items() if not key.endswith("_ROOT")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    script = "\n".join(["set -euxo pipefail", *runnable(page.read_text())])
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
