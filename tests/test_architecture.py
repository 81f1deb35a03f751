"""The layout of docs/architecture.md: what it lists is there, and imports point one way."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "covidmm"
PAGE = (ROOT / "docs/architecture.md").read_text()
LISTING = re.search(r"\n    covidmm/\n(.*?)\n\n", PAGE, re.DOTALL)[1]
RANKS = re.search(r"\n    (errors -> .*?)\n\n", PAGE, re.DOTALL)[1].split("->")
ORDER = [{name.strip() for name in rank.split(",")} for rank in RANKS]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))
TOOLS = sorted((ROOT / "tools").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(path):
    return str(path.relative_to(ROOT))


def test_the_page_lists_the_root_of_the_package_and_nothing_else():
    listed = set(re.findall(r"^      (\w+)(?:/|\.py) ", LISTING.partition("\n    tools/")[0], re.MULTILINE))
    there = {package_of(path) for path in MODULES} - {"__init__"}
    assert listed == there == set(RANK)


def test_the_page_lists_every_tool():
    for path in (ROOT / "tools").glob("[!_]*.py"):
        assert path.name in LISTING, path.name


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_point_one_way(path):
    own = package_of(path)
    for name in imports(path) if own != "__init__" else ():
        parts = name.split(".")
        if parts[0] == "covidmm" and len(parts) > 1 and parts[1] in RANK and parts[1] != own:
            assert RANK[parts[1]] < RANK[own], f"{named(path)} imports {name}, which stands after or beside its package"


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=named)
def test_tools_are_not_imported_and_packages_by_their_own_names(path):
    for name in imports(path):
        assert name.split(".")[0] not in {"tools", "tests", "onedl_mmdetection", "onedl_mmcv", "onedl_mmengine"}


def test_a_module_is_found_by_its_file_name():
    counts = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {name: count for name, count in counts.items() if count > 1} == {}


def test_every_registered_class_is_imported_by_registration():
    registered = set(imports(PACKAGE / "registration.py"))
    for path in MODULES:
        if "register_module(" in path.read_text() and path.name != "registration.py":
            assert ".".join(path.relative_to(ROOT).with_suffix("").parts) in registered, named(path)


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=named)
def test_modules_stay_short(path):
    assert len(path.read_text().splitlines()) <= 350
