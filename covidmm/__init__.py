"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from covidmm.utils.lazy_imports import install

__version__ = "0.1.0"

# Before anything imports mmcv or mmdet: makes MMDetection importable where mmcv has no compiled module, and leaves out
# what MMDetection imports for parts that are not used.
install()
