"""Imports every module that registers a class, once.

A config needs one line, which ``configs/_base_/default_runtime.py`` holds:
``custom_imports = dict(imports=['covidmm.registration'], allow_failed_imports=False)``.
"""

from covidmm.datasets import nih, rsna, siim  # noqa: F401
