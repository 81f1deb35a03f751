"""Mutation fuzzing: valid radiographs with bytes changed, cut, doubled and exchanged, read in a child process.

Every third mutant of a DICOM file is whole, but for attributes that describe its pixels and how they are shown.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from covidmm.errors import RadiographError
from covidmm.radiograph.sandbox import IsolatedReader
from tests.corpus.valid import valid_files

#: What a reader is allowed for one mutant: processor time (CharLS takes 4 s for some streams) and memory.
PROCESSOR_SECONDS, MEMORY_BYTES = 10.0, 2 * 2**30
#: By the clock, after which a decoder that no longer computes counts as hanging.
SECONDS = 300.0
#: What the isolated reader says by itself, and what that means: each is a finding.
_FINDINGS = {"ended its decoder": "crash", "takes longer": "hang", "does not fit into memory": "out of memory"}
_EXTREMES = (b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00")
_NUMBERS = (*b"0 1 -1 0.5 2048 4096 -1024 65535 1e30 -1e-30 nan inf x".split(), b"")
_WHOLE = tuple(number.to_bytes(2, "little") for number in (0, 1, 255, 256, 2047, 2048, 4095, 4096, 32767, 32768, 65535))
#: Attributes that tell a decoder what the pixels are -> values in bytes, as they stand in a file.
PIXELS: Mapping[str, tuple[bytes, ...]] = {
    "BitsStored": tuple(number.to_bytes(2, "little") for number in (0, 1, 7, 8, 10, 11, 12, 13, 15, 16, 17, 32)),
    "HighBit": tuple(number.to_bytes(2, "little") for number in (0, 7, 11, 12, 13, 14, 15, 16, 31)),
    "PixelRepresentation": (b"\0\0", b"\x01\0", b"\x02\0"),
    "PhotometricInterpretation": (b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"YBR_FULL", b"PALETTE COLOR"),
    "SamplesPerPixel": (b"\x01\0", b"\x03\0", b"\x04\0"),
}
#: Attributes that tell how the pixels are shown: whatever they say, there is an image.
DISPLAY: Mapping[str, tuple[bytes, ...]] = {
    "WindowCenter": (*_NUMBERS, rb"100\2000", rb"\\"),
    "WindowWidth": (*_NUMBERS, rb"3000\1"),
    "VOILUTFunction": (b"LINEAR", b"LINEAR_EXACT", b"SIGMOID", b"linear", b"CUBIC", rb"LINEAR\SIGMOID", b""),
    "RescaleSlope": (*_NUMBERS, rb"1\2"),
    "RescaleIntercept": _NUMBERS,
    "PixelPaddingValue": (*_WHOLE, b"", _WHOLE[1] * 2),
    "PixelPaddingRangeLimit": (*_WHOLE, b""),
    "PresentationLUTShape": (b"IDENTITY", b"INVERSE", b"LIN OD", b""),
    "VOILUTSequence": (b"",),
    "ModalityLUTSequence": (b"",),
}


@dataclass
class Tally:
    """How mutants ended, and those that should not have ended so, by name."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of ``count`` mutants of the valid files, the same ones for the same seed."""
    files = valid_files()
    names = sorted(files)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        name = names[number % len(names)]
        content = bytearray(files[name])
        if number % 3 == 2 and name.endswith(".dcm"):
            yield f"{seed}-{number}-{name}", with_attributes(files[name], rng, {**PIXELS, **DISPLAY})
            continue
        for _ in range(rng.integers(1, 4)):
            _change(content, bytes(files[names[rng.integers(len(names))]]), rng)
        yield f"{seed}-{number}-{name}", bytes(content)


def with_attributes(content: bytes, rng: np.random.Generator, choices: Mapping[str, tuple[bytes, ...]]) -> bytes:
    """A DICOM file with one to five other attributes, drawn from the choices; lookup tables are made."""
    made = pydicom.dcmread(io.BytesIO(content))
    for name in rng.choice(sorted(choices), rng.integers(1, 6), replace=False):
        if name.endswith("Sequence"):
            setattr(made, name, [_table(rng)])
            continue
        value = choices[name][rng.integers(len(choices[name]))]
        tag = Tag(name)
        kind = pydicom.datadict.dictionary_VR(tag)
        implicit, little = made.original_encoding
        value = value if kind not in ("US", "US or SS") or little else value[::-1]
        kind = "US" if kind == "US or SS" else kind
        made[tag] = RawDataElement(tag, kind, len(value), value + b" " * (len(value) % 2), 0, implicit, little)
    file = io.BytesIO()
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _table(rng: np.random.Generator) -> Dataset:
    count = int(rng.choice([0, 1, 2, 255, 256, 3000, 4096]))
    said = count if rng.random() < 0.5 else int(rng.choice([0, 1, 256, 4096, 65535]))
    item = Dataset()
    descriptor: list[Any] = [said, int(rng.choice([0, 1, 100, 4095, 65535])), int(rng.choice([0, 8, 12, 16, 99]))]
    item.add_new("LUTDescriptor", "US", descriptor[: rng.choice([2, 3, 3, 3, 3])])
    item.add_new("LUTData", "US", [int(one) for one in rng.integers(0, 2**16, count)])
    item.add_new("ModalityLUTType", "LO", "US")
    return item


def read_mutants(count: int, seed: int, keep: Path | None = None) -> Tally:
    """Read mutants as the server reads files; a crash or a hang of a decoder ends its process, and is a finding.

    Args:
        count: how many.
        seed: draws them.
        keep: a folder for the contents of findings.
    """
    tally = Tally()
    with IsolatedReader(SECONDS, MEMORY_BYTES) as reader:
        for name, content in mutants(count, seed):
            end = _end(reader, name, content)
            tally.ends[end] += 1
            if end in _FINDINGS.values():
                tally.findings[name] = end
                if keep is not None:
                    (keep / name).write_bytes(content)
    return tally


def _end(reader: IsolatedReader, name: str, content: bytes) -> str:
    before = _processor_seconds(reader)
    try:
        reader.read(content, name)
    except RadiographError as error:
        # the isolated reader's own words; all else comes from covidmm.radiograph
        cause = str(error).removeprefix(f"{name}: ")
        end = next((end for words, end in _FINDINGS.items() if cause.startswith(words)), "refused")
    else:
        end = "image"
    return "hang" if _processor_seconds(reader) - before > PROCESSOR_SECONDS else end


def _processor_seconds(reader: IsolatedReader) -> float:
    """Used by the decoder up to now; 0 where there is none."""
    if reader._child is None:
        return 0.0
    fields = Path(f"/proc/{reader._child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _change(content: bytearray, other: bytes, rng: np.random.Generator) -> None:
    if not content:
        return
    # half of the changes lie in the header, where they tell a decoder something
    end = len(content) if rng.random() < 0.5 else min(len(content), 600)
    place = int(rng.integers(end))
    length = int(rng.integers(1, 64))
    match rng.integers(6):
        case 0:
            content[place] ^= 1 << int(rng.integers(8))
        case 1:
            content[place : place + length] = rng.bytes(length)
        case 2:
            content[place : place + 4] = _EXTREMES[rng.integers(len(_EXTREMES))]
        case 3:
            del content[place : place + length]
        case 4:
            del content[place:]
        case 5:
            start = int(rng.integers(len(other)))
            content[place:place] = other[start : start + length]
