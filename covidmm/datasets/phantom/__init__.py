"""Synthetic chest radiographs with exactly known opacities, in the raw SIIM layout.

Phantoms test software and show it working. They say nothing about patients: never report a result on them
as a clinical one.
"""

from covidmm.datasets.phantom.writer import PhantomSummary, write_phantoms

__all__ = ["PhantomSummary", "write_phantoms"]
