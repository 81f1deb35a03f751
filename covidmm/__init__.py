"""covidmm: chest X-ray detection and classification as plugins of MMDetection.

Research software, not a medical device.
"""

from importlib import import_module
from typing import Any

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


#: What ``covidmm.NAME`` is, imported at its first use: an import of covidmm alone costs nothing.
_API = {
    "train": ("covidmm.jobs.train_test", "train"),
    "test": ("covidmm.jobs.train_test", "evaluate"),
    "Predictor": ("covidmm.inference", "Predictor"),
}


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'covidmm' has no attribute '{name}'")
    module, attribute = _API[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
