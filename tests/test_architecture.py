"""The house: imports point one way, tests mirror the package, nobody names a distribution."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "covidmm"
# docs/architecture.md: a room may import what stands before it, and its own kind
ORDER = [
    {"processes", "stopping", "heap"},
    {"errors", "atomic", "ops", "deferred", "spreadsheet", "__init__"},
    {"grey", "codestreams", "files", "provenance"},
    {"radiograph"},
    {"findings", "isolation"},
    {"predictions", "structured_report"},
    {"datasets"},
    {"submission"},
    {"models"},
    {"evaluation"},
    {"engine"},
    {"plugins"},
    {"ensembles", "studies"},
    {"inference"},
    {"audit", "reports", "web"},
    {"benchmarks", "jobs", "registration"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = room_of(path)
    assert room in RANK, f"{room} has no place in docs/architecture.md"
    for name in imports(path):
        parts = name.split(".")
        if room != "__init__" and parts[0] == "covidmm" and len(parts) > 1 and parts[1] in RANK and parts[1] != room:
            allowed = RANK[parts[1]] < RANK[room] or room == "registration"
            assert allowed, f"{path.relative_to(ROOT)} imports {name}, a room that stands after or beside its own"


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "tools").glob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_tools_are_imported_by_nobody_and_packages_by_their_own_names(path):
    for name in imports(path):
        assert name.split(".")[0] not in {"tools", "tests", "onedl_mmdetection", "onedl_mmcv", "onedl_mmengine"}


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.name != "__init__.py" and room_of(p) != "registration"], ids=lambda p: p.name
)
def test_every_module_has_a_test_of_its_own(path):
    mirror = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
    assert mirror.is_file(), f"{mirror.relative_to(ROOT)} is missing"


def test_every_registered_class_is_imported_by_registration():
    named = set(imports(PACKAGE / "registration.py"))
    for path in MODULES:
        if "register_module(" in path.read_text() and path.name != "registration.py":
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert module in named or module == "covidmm.datasets.prepared", f"registration.py misses {module}"


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "tools").glob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_short(path):
    assert len(path.read_text().splitlines()) <= 350
