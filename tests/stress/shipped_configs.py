"""Read and check every config that MMDetection ships: ``python -m tests.stress.shipped_configs``, some minutes."""

from __future__ import annotations

import sys

import covidmm.registration  # noqa: F401
from tests.helpers.shipped_configs import SHIPPED, refusal, unexpected


def main() -> int:
    """Print each refusal that is not listed."""
    refusals = {name: found for name in SHIPPED if (found := refusal(name)) is not None}
    wrong = [line for name in SHIPPED if (line := unexpected(name, refusals.get(name)))]
    print("\n".join(wrong))
    print(f"{len(SHIPPED)} configs, {len(refusals)} refused, {len(wrong)} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
