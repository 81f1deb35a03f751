"""What is known of a radiograph without decoding a pixel; each header field is one line of :class:`Header`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = dataset.get(keyword)
    return (str(value).strip() or None) if value is not None else None


def _verbatim(dataset: Dataset, keyword: str) -> str:
    return str(dataset[keyword].value)


def _whole_number(dataset: Dataset, keyword: str) -> int:
    try:
        return int(dataset.get(keyword))
    except (TypeError, ValueError):
        shown = f"{_text(dataset, keyword)!r:.50}"
        raise ValueError(f"{keyword} is {shown}, expected a whole number") from None


def _whole_number_or(default: int) -> Callable[[Dataset, str], int]:
    def parse(dataset: Dataset, keyword: str) -> int:
        return default if dataset.get(keyword) in (None, "") else _whole_number(dataset, keyword)

    return parse


def _frames(dataset: Dataset, keyword: str) -> int:
    return _whole_number_or(1)(dataset, keyword) or 1


def _years(dataset: Dataset, keyword: str) -> int | None:
    """Completed years of a DICOM age string such as ``045Y`` or ``006M``."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])?", _text(dataset, keyword) or "")
    return int(found[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1, None: 1}[found[2]] if found else None


def _of_file_meta(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.file_meta.get(keyword, "")) or None


def _element(
    keyword: str,
    parse: Callable[[Dataset, str], Any] = _text,
    default: Any = None,
    *,
    required: bool = False,
    prepared: bool = False,
) -> Any:
    """A field that is read from a DICOM element.

    Args:
        keyword: of the element.
        parse: reads its value; the default makes None of a blank or absent one.
        default: where the file is no DICOM file.
        required: a DICOM object without it holds no image.
        prepared: whether ``prepare`` copies it to the COCO entry of an image.
    """
    metadata = {"keyword": keyword, "parse": parse, "required": required, "prepared": prepared}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Header:
    """What is known of a radiograph without decoding a pixel. None stands for blank or absent.

    ``height`` and ``width`` are in pixels; ``study``, ``series`` and ``image`` are the DICOM instance UIDs;
    ``age`` is in completed years.
    """

    path: Path
    height: int = _element("Rows", _whole_number, MISSING, required=True)
    width: int = _element("Columns", _whole_number, MISSING, required=True)
    study: str | None = _element("StudyInstanceUID")
    series: str | None = _element("SeriesInstanceUID")
    image: str | None = _element("SOPInstanceUID")
    photometric: str = _element("PhotometricInterpretation", _verbatim, "MONOCHROME2", required=True, prepared=True)
    view: str | None = _element("ViewPosition", prepared=True)
    sex: str | None = _element("PatientSex", prepared=True)
    age: int | None = _element("PatientAge", _years, prepared=True)
    modality: str | None = _element("Modality", prepared=True)
    manufacturer: str | None = _element("Manufacturer", prepared=True)
    body_part: str | None = _element("BodyPartExamined", prepared=True)
    bits_stored: int = _element("BitsStored", _whole_number_or(8), 8, prepared=True)
    transfer_syntax: str | None = _element("TransferSyntaxUID", _of_file_meta, prepared=True)
    patient: str | None = _element("PatientID")
    frames: int = _element("NumberOfFrames", _frames, 1)

    @classmethod
    def of_dataset(cls, path: Path, dataset: Dataset) -> Header:
        """The header of a DICOM object.

        Raises:
            ValueError: it holds no image, or a number that is none.
        """
        for element in _ELEMENTS.values():
            if element["required"] and _text(dataset, element["keyword"]) is None:
                raise ValueError(f"DICOM without {element['keyword']}: it holds no image")
        return cls(path, **{name: element["parse"](dataset, element["keyword"]) for name, element in _ELEMENTS.items()})

    def to_json(self) -> dict[str, Any]:
        """All but the path, as JSON values."""
        return {name: getattr(self, name) for name in _ELEMENTS}

    @classmethod
    def from_json(cls, path: Path, content: Mapping[str, Any]) -> Header:
        """What :meth:`to_json` gave; thousands of headers share their equal values."""
        return cls(
            path, **{name: sys.intern(value) if isinstance(value, str) else value for name, value in content.items()}
        )


_ELEMENTS: dict[str, Mapping[str, Any]] = {one.name: one.metadata for one in fields(Header) if one.metadata}
#: Keywords of the DICOM elements that a header is made of.
KEYWORDS = tuple(element["keyword"] for element in _ELEMENTS.values())
#: Fields that ``prepare`` copies to the COCO entry of an image, in the order of their keys.
PREPARED_FIELDS = tuple(name for name, element in _ELEMENTS.items() if element["prepared"])
