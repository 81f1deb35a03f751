import errno
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from covidmm.errors import DataError
from covidmm.utils.journal import Journal


def test_a_later_run_resumes(tmp_path):
    path = tmp_path / "new/a.part"
    with Journal(path, {"checkpoint": (1, 2)}) as journal:
        journal.append([{"a": 1}, 2])
        journal.append([3])
    with Journal(path, {"checkpoint": (1, 2)}) as journal:
        assert journal.done == 3
        journal.append([4])
        assert list(journal.items()) == [{"a": 1}, 2, 3, 4]
        journal.remove()
    assert list(path.parent.iterdir()) == []


def test_a_run_may_begin_anew(tmp_path):
    with Journal(tmp_path / "a.part", {}) as journal:
        journal.append([1])
    with Journal(tmp_path / "a.part", {}, resume=False) as journal:
        assert (journal.done, list(journal.items())) == (0, [])


def test_batches_of_another_fingerprint_are_dropped(tmp_path):
    with Journal(tmp_path / "a.part", {"checkpoint": 1}) as journal:
        journal.append([1, 2])
    with Journal(tmp_path / "a.part", {"checkpoint": 2}) as journal:
        assert journal.done == 0
        journal.append([3])
        assert list(journal.items()) == [3]


@pytest.mark.parametrize("tail", ["[" * 200_000 + "\n", "[3, 4", '{"made_from": {}}\n', "\x00\n", "\n", "\udcff\n"])
def test_a_damaged_line_is_dropped_and_does_not_swallow_the_next(tmp_path, tail):
    path = tmp_path / "a.part"
    with Journal(path, {}) as journal:
        journal.append([1, 2])
    path.write_bytes(path.read_bytes() + tail.encode(errors="surrogateescape"))
    with Journal(path, {}) as journal:
        assert journal.done == 2
        journal.append([3])
        assert list(journal.items()) == [1, 2, 3]
    with Journal(path, {}) as journal:
        assert journal.done == 3


@pytest.mark.parametrize("content", ["", "[]\n", '{"made_from": "text"}\n', '{"made_from": {}}', "7\n[1]\n"])
def test_another_header_is_an_empty_journal(tmp_path, content):
    path = tmp_path / "a.part"
    path.write_text(content)
    with Journal(path, {}) as journal:
        assert (journal.done, list(journal.items())) == (0, [])
    assert json.loads(path.read_text()) == {"made_from": {}}


def test_two_runs_cannot_write_one_file(tmp_path):
    with Journal(tmp_path / "a.part", {}) as journal:
        journal.append([1])
        with (
            pytest.raises(DataError, match=r"^another run$"),
            Journal(tmp_path / "a.part", {}, busy="another run"),
        ):
            pass
        assert list(journal.items()) == [1]


def test_a_killed_process_leaves_whole_batches_and_no_lock(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from covidmm.utils.journal import Journal\n"
        f"with Journal(Path({str(tmp_path / 'a.part')!r}), {{}}) as journal:\n"
        "    for k in range(100):\n"
        "        journal.append([k, k])\n"
        "        if k == 60: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd())
    assert ended.returncode == -signal.SIGKILL
    with Journal(tmp_path / "a.part", {}) as journal:
        assert journal.done == 122
        assert list(journal.items())[-1] == 60


def test_a_full_disk_names_the_file_and_costs_one_batch(tmp_path):
    path = tmp_path / "a.part"
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Journal(path, {}) as journal:
        journal.append([1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                journal.append([2] * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    with Journal(path, {}) as journal:
        assert list(journal.items()) == [1]


def test_a_fault_on_entering_releases_the_lock(tmp_path):
    (tmp_path / "a.part").mkdir()
    with pytest.raises(IsADirectoryError), Journal(tmp_path / "a.part", {}):
        pass
    (tmp_path / "a.part").rmdir()
    with Journal(tmp_path / "a.part", {}):
        pass
