"""Reads XML files of labels."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type, whose entities could grow without bound.

    Raises:
        ValueError: ``xml: cause``: it is none, or has a document type.
    """
    try:
        data = path.read_bytes()
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(data, True)
        return ElementTree.fromstring(data)
    except (OSError, expat.ExpatError, ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"xml: cannot be read: {error}") from None


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("xml: has a DOCTYPE, which is not read: its entities may be anything")
