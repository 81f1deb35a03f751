"""The codes of a Structured Report: public ones by class, and private ones where no public scheme has any."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydicom import Dataset

import covidmm
from covidmm.findings import OPACITY

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

#: Value, scheme designator and meaning of a code.
ClassCode = tuple[str, str, str]
#: Of classes that need none in a config.
KNOWN_CODES: dict[str, ClassCode] = {OPACITY[0]: ("112001", "DCM", "Opacity")}
#: Designator of the codes that no public scheme has, such as the disclaimer.
SCHEME = "99COVIDMM"
#: Of SIIM's study classes, in RSNA's wording; other classifiers may mean something else by their names.
SIIM_STUDY_CODES: dict[str, ClassCode] = {
    "negative": ("negative", SCHEME, "Negative for pneumonia"),
    "typical": ("typical", SCHEME, "Typical appearance of COVID-19 pneumonia"),
    "indeterminate": ("indeterminate", SCHEME, "Indeterminate appearance of COVID-19 pneumonia"),
    "atypical": ("atypical", SCHEME, "Atypical appearance of COVID-19 pneumonia"),
}


def private_scheme() -> Dataset:
    """The item of the Coding Scheme Identification Sequence for :data:`SCHEME`."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "covidmm"
    scheme.CodingSchemeVersion = covidmm.__version__
    return scheme


def code_of(name: str, coded: Mapping[str, ClassCode]) -> Code:
    """The code of a class; a private one, made of its name, where none is given."""
    # half a second to import, which only a report needs
    from pydicom.sr.codedict import Code

    if name in coded:
        return Code(*coded[name])
    return private_code(hashlib.sha256(name.encode()).hexdigest()[:16], name[:64])


def private_code(value: str, meaning: str) -> Code:
    """A code of :data:`SCHEME`; the value has at most 16 characters, the meaning 64."""
    from pydicom.sr.codedict import Code

    return Code(value, SCHEME, meaning)
