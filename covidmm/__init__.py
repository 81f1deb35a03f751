"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from covidmm.utils import config_modules
from covidmm.utils.lazy_imports import install

__version__ = "0.1.0"

# Before anything imports mmcv or mmdet: makes MMDetection importable where mmcv has no compiled module, and leaves out
# what MMDetection imports for parts that are not used.
install()
# in a data-loader worker that was spawned: what the config of its parent imported from its own folder
config_modules.install()
