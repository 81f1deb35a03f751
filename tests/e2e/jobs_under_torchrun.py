"""Run under torchrun: a training, a test and an ensemble; MMDetection is imported once for all three."""

import json
import sys

from covidmm.utils.command_line import run_tool


def main():
    from covidmm.engine.launch import launched
    from covidmm.jobs.ensemble import Request, ensemble
    from covidmm.jobs.train_test import evaluate, train

    with launched("pytorch"):
        for name, arguments in json.loads(sys.argv[1]).items():
            if name == "ensemble":
                ensemble(Request(**arguments))
            else:
                {"train": train, "evaluate": evaluate}[name](**arguments)


if __name__ == "__main__":
    sys.exit(run_tool(main))
