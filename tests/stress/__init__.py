"""Programs that are run by hand: ``make test-long``, ``make fuzz``. They find ``tools/benchmarks`` as pytest does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tools"))
