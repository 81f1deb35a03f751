"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from covidmm.utils import lazy_imports, mmcv_ops

__version__ = "0.1.0"

# Before anything imports mmcv: makes MMDetection importable where mmcv has no compiled module.
mmcv_ops.install()
# Likewise: leaves out what MMDetection imports for parts that are not used.
lazy_imports.install()
