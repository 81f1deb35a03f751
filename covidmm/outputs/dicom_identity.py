"""Whose images a report is about: patient and study attributes of their headers, in Unicode and valid, and UIDs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.uid import UID

from covidmm.errors import RadiographError
from covidmm.radiograph.bounds import BoundedFile

#: By which a report refers to an image.
LINKS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
#: Of the patient and study: a report repeats them, empty where the images have no value (types 1 and 2 of PS3.3).
_REPEATED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
#: Repeated where the images have a value.
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")
#: All that a report reads of a header.
REPORT_KEYWORDS = (*LINKS, *_REPEATED, *_OPTIONAL, "SpecificCharacterSet", "Modality")
#: Longest value that is repeated, in characters; DICOM's own limits are 16 to 324. Chosen here.
_LONGEST = 1024
#: ISO 2022 escape sequences, some of which pydicom leaves in the text that they have decoded (ISO 2022 IR 58).
_ESCAPE = re.compile(r"\x1b[\x20-\x2f]+[\x30-\x7e]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Of this process: without it, nobody can try out which identifiers a UID was made of.
_SECRET = uuid.uuid4().hex


def uid_of(words: Sequence[str], what: str) -> str:
    """A UID made of a UUID (PS3.5, B.2), the same for the same words."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join([*words, what])).int}"


def secret_uid(value: str) -> str:
    """A UID in place of another, the same within this process, that tells nothing of the other."""
    return uid_of([_SECRET, value], "deidentified")


def valid_uid(value: str) -> str:
    """The UID itself, or where it is none one that is made of it."""
    return value if UID(value, validation_mode=0).is_valid else uid_of([value], "replaced")


def report_header(source: Path | BinaryIO) -> Dataset:
    """What a report needs of the header of a DICOM file, with or without its preamble; all else is passed over.

    Raises:
        ValueError: it is no DICOM file.
    """
    with BoundedFile(source) if isinstance(source, Path) else nullcontext(source) as file:
        try:
            found = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(REPORT_KEYWORDS))
            named = bool(found.get("SOPClassUID"))
        except Exception:
            named = False
    if not named:
        raise ValueError("is no DICOM file, a Structured Report can refer to DICOM only")
    return found


def linked(source: Dataset, replacement: Callable[[str], str]) -> Dataset:
    """What the evidence of a report needs of a source image; attributes of the patient are empty.

    Args:
        source: the header of the image.
        replacement: of each UID but that of the class.

    Raises:
        RadiographError: the image lacks a UID.
    """
    image = Dataset()
    for name in LINKS:
        if not source.get(name):
            raise RadiographError(f"a source image has no {name}: a report cannot refer to it")
        value = str(source.get(name))
        setattr(image, name, valid_uid(value) if name == "SOPClassUID" else replacement(value))
    if source.get("Modality"):
        image.Modality = source.Modality
    for name in _REPEATED:
        setattr(image, name, None)
    return image


def identity(sources: Sequence[Dataset]) -> tuple[Dataset, list[str]]:
    """Patient and study attributes of the images of one study: those of the first image, in Unicode.

    Returns:
        The attributes, to be written in ISO_IR 192; and a note, without values, for each that was changed or left
        empty, or that not all images agree in.
    """
    found, notes = Dataset(), []
    for name in (*_REPEATED, *_OPTIONAL):
        values = [_value(source, name) for source in sources]
        text, fault = values[0]
        if fault:
            notes.append(f"{name} of the first image {fault}")
        if any(other != text for other, _ in values[1:]):
            notes.append(f"the images of the study disagree in {name}: that of the first is written")
        if text or name in _REPEATED:
            setattr(found, name, text or None)
    return found, notes


def no_identity() -> Dataset:
    """The attributes of a report that was de-identified: empty, and marked so."""
    found = Dataset()
    for name in _REPEATED:
        setattr(found, name, None)
    found.PatientIdentityRemoved = "YES"
    found.DeidentificationMethod = "patient and study attributes left out, UIDs replaced"
    return found


def _value(source: Dataset, name: str) -> tuple[str, str]:
    """A value as valid text, and what was wrong with it, or nothing."""
    try:
        value = source.get(name)
    except Exception:  # headers are not trusted: pydicom's converters raise errors of many kinds
        return "", "cannot be read: left empty"
    if value is None:
        return "", ""
    faults = []
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else ""
        faults.append("has several values: the first is written")
    text = _ESCAPE.sub("", str(value))
    if len(text) > _LONGEST:
        text = text[:_LONGEST]
        faults.append(f"is longer than {_LONGEST} characters: the rest is left out")
    plain = _CONTROL.sub("", text).encode("utf-8", "replace").decode()
    if plain != text:
        faults.append("has control characters: they are left out")
    text = plain.strip(" ")
    if not text.isascii() and ("\ufffd" in text or not _declared(source)):
        faults.append("has characters outside the character set that is declared: they may be wrong")
    corrected = _CORRECTED.get(dictionary_VR(name), str)(text)
    if corrected != text:
        faults.append("is no valid value: corrected" if corrected else "is no valid value: left empty")
    return corrected, ", ".join(faults)


def _declared(source: Dataset) -> bool:
    """Whether a character set beyond ASCII is declared and known."""
    declared = source.get("SpecificCharacterSet")
    terms = [declared] if isinstance(declared, str) else list(declared or ())
    known = [term for term in terms if term not in ("", "ISO_IR 6", "ISO 2022 IR 6")]
    return bool(known) and all(term in python_encoding for term in known)


def _date(text: str) -> str:
    """A date as DICOM writes it; ACR-NEMA had dots, others write dashes. Nothing where it is none."""
    return _moment(re.sub(r"^(\d{4})[.\-/](\d\d)[.\-/](\d\d)$", r"\1\2\3", text), "%Y%m%d", r"\d{8}")


def _time(text: str) -> str:
    """A time as DICOM writes it; ACR-NEMA had colons. Nothing where it is none."""
    digits = re.sub(r"^(\d\d):(\d\d)(?::(\d\d(\.\d{1,6})?))?$", r"\1\2\3", text)
    whole = digits.partition(".")[0]
    form = {2: "%H", 4: "%H%M", 6: "%H%M%S"}.get(len(whole), "%H%M%S")
    valid = _moment(whole, form, r"\d+") and re.fullmatch(r"\d{2,6}|\d{6}\.\d{1,6}", digits)
    return digits if valid else ""


def _moment(text: str, form: str, pattern: str) -> str:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return ""
    return text if re.fullmatch(pattern, text, re.ASCII) else ""


def _sex(text: str) -> str:
    return text.upper() if text.upper() in ("M", "F", "O") else ""


#: How a value of each kind becomes a valid one; PatientSex is the only code string that is repeated.
_CORRECTED: dict[str, Callable[[str], str]] = {"DA": _date, "TM": _time, "CS": _sex}
