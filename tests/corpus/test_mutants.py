"""Five hundred mutants, and that a crash or a hang would be seen. ``tests/stress/long.py`` reads ten thousand."""

import os
import signal

import numpy as np

from covidmm import radiograph
from covidmm.radiograph.sandbox import IsolatedReader
from tests.corpus.mutants import DISPLAY, SECONDS, mutants, read_mutants, with_attributes
from tests.corpus.valid import valid_files


def test_no_mutant_crashes_hangs_or_ends_in_another_error(tmp_path):
    tally = read_mutants(500, seed=0, keep=tmp_path)
    assert tally.findings == {}
    assert sum(tally.ends.values()) == 500
    # mutants that are all refused, or all read, would try nothing
    assert min(tally.ends["image"], tally.ends["refused"]) > 50


def test_mutants_differ_from_what_they_were_made_of_and_are_the_same_each_time():
    made = dict(mutants(60, seed=3))
    assert made == dict(mutants(60, seed=3))
    whole = set(map(bytes, valid_files().values()))
    assert sum(content not in whole for content in made.values()) > 50
    assert len(set(made.values())) > 50


def test_no_display_attribute_costs_the_image(tmp_path):
    files = {name: content for name, content in valid_files().items() if name.endswith(".dcm")}
    lost = {}
    for number in range(600):
        rng = np.random.default_rng((7, number))
        name = sorted(files)[number % len(files)]
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(with_attributes(files[name], rng, DISPLAY))
        found = radiograph.read(path)
        if len(np.unique(found.pixels)) < 3:
            lost[path] = found.notes
    assert lost == {}


def test_a_crash_and_a_hang_are_findings(monkeypatch):
    true, whole = IsolatedReader.read, next(iter(valid_files().values()))

    def read(self, content, name):
        for start, number, state in (
            ("0-1-", signal.SIGSEGV, os.WEXITED),
            ("0-2-", signal.SIGSTOP, os.WSTOPPED),
        ):
            if name.startswith(start):
                true(self, whole, name)  # so that there is a child
                os.kill(self._child.pid, number)
                os.waitid(os.P_PID, self._child.pid, state | os.WNOWAIT)
        self.timeout_s = 0.1 if name.startswith("0-2-") else SECONDS
        return true(self, content, name)

    monkeypatch.setattr(IsolatedReader, "read", read)
    tally = read_mutants(4, seed=0)
    assert sorted(tally.findings.values()) == ["crash", "hang"]


def test_computing_too_long_is_a_finding_whatever_the_clock_says(monkeypatch):
    monkeypatch.setattr("tests.corpus.mutants.PROCESSOR_SECONDS", -1)
    assert set(read_mutants(2, seed=0).findings.values()) == {"hang"}
