"""Mutation fuzzing: valid radiographs with bytes changed, cut, doubled and exchanged, read in a child process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
        for _ in range(rng.integers(1, 4)):
            _change(content, bytes(files[names[rng.integers(len(names))]]), rng)
        yield f"{seed}-{number}-{name}", bytes(content)


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
