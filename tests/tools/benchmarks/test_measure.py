import os
from importlib.metadata import version

from benchmarks.measure import machine


def test_the_facts_are_this_machine():
    facts = machine("numpy")
    assert facts["cores"] == os.cpu_count()
    assert facts["processor"]
    assert facts["numpy"] == version("numpy")
