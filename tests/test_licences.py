"""The licences of what covidmm needs to run."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def licences():
    return runpy.run_path(str(ROOT / "docs/licences.py"))


def rows():
    return re.findall(r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)


def test_nothing_that_is_needed_to_run_is_under_the_gpl_or_the_agpl(licences):
    found = {name: licences["licence_of"](one) for name, one in licences["closure"]().items()}
    assert len(found) > 60
    assert {"torch", "onedl-mmdetection", "pydicom", "fastapi", "highdicom"} <= set(found)
    assert {name: licence for name, licence in found.items() if licences["COPYLEFT"].search(licence)} == {}


@pytest.mark.parametrize(
    ("licence", "copyleft"),
    [
        ("GPL-3.0-or-later", True),
        ("GNU Affero General Public License v3", True),
        ("AGPL", True),
        ("MIT", False),
        ("LGPL-2.1", False),
        ("GNU Lesser General Public License v3", False),
        ("MPL-2.0", False),
    ],
)
def test_copyleft_is_told_from_the_lesser_one(licences, licence, copyleft):
    assert bool(licences["COPYLEFT"].search(licence)) is copyleft


def test_the_page_has_what_the_lock_has(licences):
    locked = licences["locked"]()
    listed = {name: version for name, version, _ in rows() if name != "distribution"}
    assert len(listed) > 60
    # a package may be locked in several versions, one for each Python
    assert set(listed) <= set(locked)
    lock = (ROOT / "requirements.lock").read_text().lower()
    assert {name: version for name, version in listed.items() if f"=={version}" not in lock} == {}
    missing = {name for name in licences["closure"]() if name in locked} - set(listed)
    assert missing == set()
