"""The commands of ``covidmm``: each module has ``add_arguments(parser)`` and ``run(args)``; work is imported late."""

import argparse


def positive(text: str) -> int:
    """An integer above 0, as the ``type`` of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {value}")
    return value
