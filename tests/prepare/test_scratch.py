import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.prepare import scratch as module
from covidmm.prepare.scratch import Rows, Scratch, joined, parted

# Lone surrogates are what Python makes of a file name that is no text.
KEYS = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=3)
CHANGES = st.lists(st.tuples(st.sampled_from(["set", "get", "pop", "setdefault", "in", "len", "list"]), KEYS))


def outcome(mapping, what, key, number):
    """Does something to a map or a dict; what it answers."""
    if what == "set":
        mapping[key] = [number, key]
        return None
    answers = {
        "get": lambda: mapping.get(key),
        "pop": lambda: mapping.pop(key, None),
        "setdefault": lambda: mapping.setdefault(key, number),
        "in": lambda: key in mapping,
        "len": lambda: len(mapping),
        "list": lambda: sorted(mapping.items(), key=itemgetter(0)),
    }
    return answers[what]()


@given(CHANGES, st.sampled_from([1, 2, 256]))
@settings(max_examples=100, deadline=None)
def test_a_map_behaves_as_a_dict_in_sorted_order(changes, block):
    expected = {}
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(module, "_BLOCK", block)
        with Scratch(Path(folder, "scratch")) as scratch:
            found, other = scratch.map(), scratch.map()
            for number, (what, key) in enumerate(changes):
                assert outcome(found, what, key, number) == outcome(expected, what, key, number)
            assert list(found) == sorted(expected)
            assert list(found.items()) == sorted(expected.items(), key=itemgetter(0))
            assert len(other) == 0


def test_a_map_may_be_changed_while_it_is_iterated_over(scratch, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 10)
    numbers = scratch.map()
    for number in range(100):
        numbers[f"{number:03d}"] = number
    seen = []
    for key, number in numbers.items():
        seen.append(number)
        if number % 3 == 0:
            del numbers[key]
        else:
            numbers[key] = -number
        numbers[f"-{key}"] = 0
    assert seen == list(range(100))
    assert sum(numbers.values()) == -sum(number for number in range(100) if number % 3)


def test_a_missing_key_is_a_key_error(scratch):
    empty = scratch.map()
    for act in (lambda: empty["a"], lambda: empty.pop("a"), lambda: empty.__delitem__("a")):
        with pytest.raises(KeyError, match="a"):
            act()
    assert 7 not in empty


@given(
    st.lists(st.lists(st.text(st.sampled_from("\0\1a"), max_size=3), min_size=1, max_size=3).map(tuple), max_size=20)
)
def test_joined_strings_sort_as_the_tuples_do(tuples):
    assert [parted(text) for text in sorted(joined(*one) for one in tuples)] == sorted(tuples)


def test_rows_are_read_like_those_of_an_array(scratch):
    expected = np.random.default_rng(0).integers(0, 256, (50, 3, 4), dtype=np.uint8)
    rows = Rows(scratch.file(), (3, 4))
    assert len(rows) == 0
    for row in expected:
        rows.append(row)
    assert len(rows) == 50
    for chosen in (slice(0, 10), slice(45, 60), slice(60, 70), np.array([3, 4, 49]), np.array([], np.intp)):
        np.testing.assert_array_equal(rows[chosen], expected[chosen])


def test_nothing_is_left_and_what_was_there_is_not_read(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "maps.sqlite").write_bytes(b"torn")
    with Scratch(folder) as scratch:
        scratch.map()["a"] = 1
        scratch.file().write(b"x")
        assert {path.name for path in folder.iterdir()} == {"maps.sqlite", "file1"}
    assert not folder.exists()

    def fail():
        with Scratch(folder):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folder.exists()


def test_a_full_data_base_is_an_error_of_the_operating_system(scratch):
    scratch.query("PRAGMA max_page_count = 20")
    numbers = scratch.map()
    with pytest.raises(OSError, match="No space left on device") as caught:
        numbers.update((str(number), bytes(1000)) for number in range(1000))
    assert caught.value.filename.endswith("scratch/maps.sqlite")


LIMITED = """
import resource, sys
from pathlib import Path
from covidmm.prepare.scratch import Scratch
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with Scratch(Path(sys.argv[1])) as scratch:
        scratch.map().update((str(number), bytes(10_000)) for number in range(2000))
except OSError as error:
    print(error)
"""


def run(program, folder):
    """What a process of its own prints."""
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout


def test_what_the_system_refuses_is_told(tmp_path):
    folder = tmp_path / "scratch"
    assert run(LIMITED, folder) == f"[Errno 27] File too large: '{folder}/maps.sqlite'\n"
    assert not folder.exists()


HUNDRED_MEGABYTES = """
import re, sys
from pathlib import Path
from covidmm.prepare.scratch import Scratch

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

with Scratch(Path(sys.argv[1])) as scratch:
    before, values = peak(), scratch.map()
    for number in range(10_000):
        values[str(number)] = bytes(10_000)
    assert sum(len(value) for _, value in values.items()) == 10**8
    print(peak() - before)
"""


def test_memory_is_bounded(tmp_path):
    assert int(run(HUNDRED_MEGABYTES, tmp_path / "scratch")) < 32_000  # KiB
