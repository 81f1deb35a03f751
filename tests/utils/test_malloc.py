"""Memory that a process keeps costs no page faults when it is asked for again."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from covidmm.utils import malloc
if sys.argv[1]:
    malloc.keep_freed_memory(getattr(malloc, sys.argv[1]))
size = int(sys.argv[2]) * 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for turn in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(size) for _ in range(3)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
with open("/proc/self/statm") as memory:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, int(memory.read().split()[1]) * 4096)
"""


def faults(kept: str, mebibytes: int) -> tuple[int, int]:
    """Page faults of the fifth turn of three blocks, and the bytes that the process holds after it."""
    command = [sys.executable, "-c", FAULTS, kept, str(mebibytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@glibc
@pytest.mark.parametrize(("kept", "mebibytes"), [("RADIOGRAPHS", 20), ("NEVER_RELEASE", 20), ("NEVER_RELEASE", 70)])
def test_freed_memory_is_kept_for_the_next_time(kept, mebibytes):
    again, held = faults(kept, mebibytes)
    handed_back, _ = faults("", mebibytes)
    assert again < 100 < handed_back
    assert held > 3 * mebibytes * 2**20


@glibc
def test_a_process_that_reads_radiographs_gives_a_great_one_back():
    assert faults("RADIOGRAPHS", 70)[1] < 70 * 2**20
