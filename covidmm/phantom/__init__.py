"""Synthetic chest radiographs in the raw SIIM layout, for tests and demonstrations.

Phantoms are drawings. A number measured on them says that the software works and nothing about patients:
never report it as a clinical result.
"""

from covidmm.phantom.writer import PhantomSummary, write_phantoms

__all__ = ["PhantomSummary", "write_phantoms"]
