"""Lets every tool be called as ``tools/NAME.py`` without activating an environment first.

Importing this module restarts the tool with the interpreter of the repository's ``.venv`` (made by
``make setup``) when the interpreter in use cannot import covidmm's dependencies.
"""

import importlib.util
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = _ROOT / ".venv" / "bin" / "python"

if importlib.util.find_spec("mmengine") is None:
    if Path(sys.prefix).resolve() != _PYTHON.parent.parent.resolve() and _PYTHON.exists():
        os.execv(_PYTHON, [str(_PYTHON), *sys.argv])
    sys.exit("error: covidmm is not installed: run `make setup` in the repository, or `pip install covidmm`")
# The covidmm beside this tool, not another one that happens to be installed.
sys.path.insert(0, str(_ROOT))
