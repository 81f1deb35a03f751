"""Real processes under torchrun, on this machine, and processes forked as if under it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tool_runs import Ended, shared_server, start_tool

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


def forked(tool: str, *arguments: object, processes: int = 2, **variables: str) -> list[Ended]:
    """Run a tool, or a script by its path, in processes with torchrun's variables, in 0.3 s where torchrun takes 10.

    Each is forked from one that has imported everything. What torchrun itself does, such as ending the others where
    one fails, is missing.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in map(str, range(processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "forked"}
        started.append(start_tool(tool, *arguments, env=variables | own))
    return [shared_server().wait(one) for one in started]


def errors(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """What the tool's processes said went wrong; torchrun itself adds a table of exit codes."""
    return [line for line in ended.stderr.splitlines() if line.startswith(("error:", "stopped"))]
