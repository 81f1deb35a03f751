"""Begin a project of your own: a package with a loss, a transform, a strategy, a classifier, configs and a test."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from string import Template

from covidmm.errors import ConfigError

TEMPLATE = Path(__file__).parent / "template"
STUDIES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", type=Path, metavar="PROJECT", help="the folder to make; its name is the package's")


def run(args: argparse.Namespace) -> None:
    project = new_project(args.project)
    print(f"{project}: cd {shlex.quote(str(project))} && pip install -e . && pytest")


def new_project(folder: Path) -> Path:
    """Write a project that can be installed, with prepared phantoms, whole or not at all.

    Raises:
        ConfigError: the folder is there already, or its name cannot be a package's.
    """
    folder = folder.expanduser()
    name = folder.resolve().name
    package = re.sub(r"\W", "_", name.lower(), flags=re.ASCII)
    if not re.fullmatch(r"[a-z]\w*", package, re.ASCII) or keyword.iskeyword(package) or package == "covidmm":
        raise ConfigError(f"{folder}: '{package}' cannot be the name of a package; begin with a letter of a to z")
    if folder.exists():
        raise ConfigError(f"{folder}: is there already; name a folder that is not")
    if not folder.resolve().parent.is_dir():
        raise ConfigError(f"{folder}: no such folder to make it in")
    with tempfile.TemporaryDirectory(dir=folder.resolve().parent, prefix=f".{name}-") as made:
        project = Path(made) / name
        for source in sorted(TEMPLATE.rglob("*.template")):
            path = source.relative_to(TEMPLATE).with_suffix("").as_posix()
            target = project / re.sub(r"^gitignore$", ".gitignore", re.sub(r"^package/", f"{package}/", path))
            target.parent.mkdir(parents=True, exist_ok=True)
            text = Template(source.read_text(encoding="utf-8")).safe_substitute(
                name=package.replace("_", "-"), package=package
            )
            target.write_text(text, encoding="utf-8")
        _prepare_phantoms(project)
        shutil.move(project, folder)
    return folder


def _prepare_phantoms(project: Path) -> None:
    from covidmm.phantom import write_phantoms
    from covidmm.prepare.options import Options
    from covidmm.prepare.pipeline import prepare

    raw = project / "raw"
    write_phantoms(raw, studies=STUDIES, seed=0, layout="vindr")
    prepare("vindr", raw, project / "data/phantoms", Options(max_size=512, test_fraction=0.25, progress=False))
    shutil.rmtree(raw)
