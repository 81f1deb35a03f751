"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from covidmm import deferred, ops

__version__ = "0.1.0"

# Before anything imports mmcv: makes MMDetection importable where mmcv has no compiled module.
ops.install()
# Likewise: leaves out what MMDetection imports for parts that are not used.
deferred.install()
