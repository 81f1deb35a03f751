"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from covidmm.utils import config_modules, lazy_imports, mmcv_ops, packaged_configs

__version__ = "0.1.0"

# before anything imports mmcv or mmdet: leaves out what MMDetection imports for parts that are not used, and makes it
# importable where mmcv has no compiled module
lazy_imports.install()
mmcv_ops.install()
# in a data-loader worker that was spawned: what the config of its parent imported from its own folder
config_modules.install()
# MMEngine's configs learn covidmm::NAME.py as they know mmdet::NAME.py
packaged_configs.install()
