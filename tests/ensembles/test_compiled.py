import os
import subprocess
import sys
from pathlib import Path

from numba import njit

from covidmm.ensembles.compiled import keep

CODE = """
import numpy as np
from covidmm.ensembles.suppression import bb_intersection_over_union as iou
iou(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 2.0]))
print(sum(iou.stats.cache_hits.values()))
"""


def test_the_second_run_does_not_compile(tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", CODE]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [["0"], ["1"]]


def test_without_a_place_to_keep_it_a_function_is_compiled_all_the_same(monkeypatch):
    @njit
    def twice(number):
        return 2 * number

    def refuse(self):
        raise RuntimeError("cannot cache function 'twice': no locator available")

    monkeypatch.setattr(type(twice), "enable_caching", refuse)
    keep(twice)
    assert twice(2) == 4
