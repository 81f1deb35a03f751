"""Real processes under torchrun, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def torchrun(*command: object, processes: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script with its arguments in several processes of one thread each, on a free port."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    process = subprocess.Popen(
        [*launch, *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes; killed, it would leave them behind
        out, err = process.communicate(timeout=60)
        pytest.fail(f"torchrun did not come to an end: {out[-2000:]}{err[-2000:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def errors(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """What the tool's processes said went wrong; torchrun itself adds a table of exit codes."""
    return [line for line in ended.stderr.splitlines() if line.startswith(("error:", "stopped"))]
