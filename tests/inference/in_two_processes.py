"""Run under torchrun: jobs, which are Python expressions, through the mapper of ``covidmm.inference.mapping``."""

import json
import os
import sys
from pathlib import Path

from covidmm.errors import CovidmmError
from covidmm.inference.mapping import sharing
from covidmm.utils.command_line import run_tool


def main():
    with sharing("pytorch", None, []) as mapping:
        print("hello")
        if mapping is None:
            return
        found = []
        for jobs in json.loads(sys.argv[2]):
            try:
                found.append(list(mapping(eval, jobs)))
            except ZeroDivisionError as error:
                raise CovidmmError(f"a job failed: {error}") from error
            Path(sys.argv[1]).write_text(json.dumps({"found": found, "own": os.getpid()}))


if __name__ == "__main__":
    sys.exit(run_tool(main, "run the same command to resume"))
