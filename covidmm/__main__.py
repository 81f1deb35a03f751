"""``python -m covidmm``."""

import sys

from covidmm.cli import main

if __name__ == "__main__":
    sys.exit(main())
