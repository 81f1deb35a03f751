"""Writes docs/licences.md from the installed distributions that covidmm needs to run: ``make licences``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).with_name("licences.md")
LOCK = PAGE.parents[1] / "requirements.lock"
#: What a user installs; `dev`, `docs` and `parity` are for developers.
EXTRAS = ("dicom", "export", "web")
#: Licences that would bind who passes covidmm on; the LGPL and the MPL bind changes of the library alone.
COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
_HEAD = """# Licences

covidmm is under the Apache License 2.0. The table has the distributions that it needs to run, with the extras `dicom`,
`export` and `web`, and the licence that each states. None is under the GPL or the AGPL; a test checks this, and that
the page agrees with `requirements.lock`.

The published `yolov5` package (AGPL) is a reference for developers, in the extra `parity`; covidmm never imports it.

`make licences` writes this page. `make audit-dependencies` asks an advisory service for known vulnerabilities.

| distribution | version | licence |
|---|---|---|
"""


def closure() -> dict[str, Distribution]:
    """The installed distributions that covidmm and its run-time extras need, by canonical name."""
    found: dict[str, Distribution] = {}
    waiting = [("covidmm", extra) for extra in ("", *EXTRAS)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        try:
            one = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform, or left out of the lock on purpose
        found[name] = one
        for needed, own_extra in _needs(one, extra):
            if (needed, own_extra) not in seen:
                seen.add((needed, own_extra))
                waiting.append((needed, own_extra))
    del found["covidmm"]
    return dict(sorted(found.items()))


def _needs(one: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    for text in one.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for own in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), own


def licence_of(one: Distribution) -> str:
    """The licence that a distribution states, in a few words."""
    metadata = one.metadata
    stated = metadata.get("License-Expression") or (metadata.get("License") or "").strip().split("\n")[0]
    classified = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::") and text.count("::") > 1
    ]
    if len(stated) > 60 or re.search(r"copyright|files:|===|agreement|^unknown$|^license$|::", stated, re.IGNORECASE):
        stated = ""
    return stated or ", ".join(classified) or "not stated; see its files"


def locked() -> dict[str, str]:
    """Versions by name, as requirements.lock has them."""
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def page() -> str:
    """The page: of the closure, what the lock has."""
    known = locked()
    rows = (f"| {name} | {one.version} | {licence_of(one)} |\n" for name, one in closure().items() if name in known)
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
