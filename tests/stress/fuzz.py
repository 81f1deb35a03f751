"""Coverage-guided fuzzing of what reads files from outside: ``make fuzz``, which installs atheris.

Any exception that is none of covidmm's, any attempt to start a process, open a connection, or change the disk, five
seconds for one input, and memory over the bound are findings: libFuzzer ends there and leaves the input behind.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import atheris

SECONDS, MEMORY_MIB = 5, 2048
#: What no file from outside may make Python do.
_FORBIDDEN = (
    "ctypes.dlopen",
    "os.chmod",
    "os.exec",
    "os.fork",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.system",
    "socket.connect",
    "subprocess.Popen",
)


class Forbidden(BaseException):
    """Not an Exception, so that it is not taken for a damaged file."""


# What is fuzzed is imported in functions, so that atheris sees the imports.
def radiograph_target(data: bytes) -> None:
    """A file, read as every tool reads it."""
    from covidmm import radiograph
    from covidmm.errors import RadiographError

    for reader in (radiograph.read, radiograph.read_header):
        _feed(data, reader, RadiographError)


def checkpoint_target(data: bytes) -> None:
    """A checkpoint, read with weights only, and by the reader of other projects' pickles."""
    from covidmm.errors import CheckpointError
    from covidmm.models.checkpoints import read_checkpoint
    from covidmm.models.foreign import read_foreign_checkpoint

    for reader in (read_checkpoint, read_foreign_checkpoint):
        _feed(data, reader, CheckpointError)


def _feed(data: bytes, reader: Any, allowed: type[Exception]) -> None:
    memory = os.memfd_create("input")
    with os.fdopen(memory, "wb") as file:
        file.write(data)
        file.flush()
        try:
            reader(Path(f"/proc/self/fd/{memory}"))
        except allowed as error:
            if "\n" in str(error):
                raise RuntimeError(f"an error of {len(str(error).splitlines())} lines") from error


def radiograph_seeds() -> dict[str, bytes]:
    """A valid file of every kind."""
    from tests.corpus.valid import valid_files

    return valid_files()


def checkpoint_seeds() -> dict[str, bytes]:
    """State dicts and a whole model, in both of torch's formats, and what a log of MMEngine adds."""
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    contents = {
        "state": {"state_dict": model.state_dict(), "meta": {"epoch": 1, "name": "a"}},
        "log": {"state_dict": {"a": torch.ones(2)}, "log": HistoryBuffer([1.0], [1]), "score": np.float64(0.5)},
        "model": {"model": model, "ema": None, "epoch": 3},
    }
    seeds = {}
    for name, content in contents.items():
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            seeds[f"{name}-{'zip' if zipped else 'legacy'}"] = buffer.getvalue()
    return seeds


TARGETS = {
    "radiograph": (radiograph_target, radiograph_seeds, ["covidmm", "pydicom"]),
    "checkpoint": (checkpoint_target, checkpoint_seeds, ["covidmm", "pickle", "torch._weights_only_unpickler"]),
}


def _forbid(event: str, _: Any) -> None:
    if event in _FORBIDDEN:
        raise Forbidden(event)


def main() -> None:
    """Fuzz one target for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/fuzz"), help="inputs, kept from run to run")
    args = parser.parse_args()
    target, seeds, packages = TARGETS[args.target]
    inputs = args.folder / args.target
    inputs.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        for name, content in seeds().items():
            (inputs / f"seed-{name}").write_bytes(content)
            target(content)  # so that everything is imported
    sys.addaudithook(_forbid)
    options = [
        f"-max_total_time={args.seconds}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-max_len=20000",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={inputs}-", str(inputs)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
