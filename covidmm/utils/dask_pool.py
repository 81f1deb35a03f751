"""Runs jobs on the workers of a Dask cluster (extra ``distributed``), in place of processes of this machine.

Dask sends a job that was under way on a dead worker to another one. All machines must see the same files under the
same names, and have the same covidmm. Importing this module raises a ConfigError where Dask is not installed.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2

import covidmm
from covidmm.errors import ClusterError, ConfigError
from covidmm.utils.malloc import RADIOGRAPHS, keep_freed_memory

try:
    from distributed import Client, Future, KilledWorker, get_worker, wait
    from distributed import TimeoutError as DaskTimeoutError
    from distributed.comm import CommClosedError
except ImportError:
    raise ConfigError("--scheduler needs Dask: pip install 'covidmm[distributed]'") from None

Job = TypeVar("Job")
Result = TypeVar("Result")

# Jobs handed out per worker: one at work, one waiting beside it. Chosen here.
_AHEAD = 2
# Seconds until a scheduler has answered, and that a cluster may be without any worker. Chosen here: a worker that died
# is back within seconds, a job array of SLURM within minutes.
_ANSWER, _WITHOUT_WORKERS = 20, 300
# How often a client is made until it is greeted first. Chosen here.
_GREETINGS = 5
# Seconds between two looks whether there are workers.
_POLL = 5


class KilledError(Exception):
    """Every worker died that was given the job."""


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address, for the length of a block.

    Raises:
        ConfigError: the address is malformed.
        ClusterError: no scheduler answers there, or it went away.
    """
    try:
        client = _greeted(address)
    except OSError:
        raise ClusterError(f"--scheduler {address}: no Dask scheduler answers there") from None
    except ValueError as error:
        raise ConfigError(f"--scheduler {address}: expected an address such as tcp://HOST:8786 ({error})") from error
    try:
        with client:
            yield client
    except CommClosedError as error:
        raise ClusterError(f"--scheduler {address}: the scheduler went away") from error


def _greeted(address: str) -> Client:
    """A new client. Dask asserts that the scheduler's greeting comes by itself; what the scheduler tells all clients
    at that moment, such as that another one cancelled its jobs, may come with it, which another try avoids."""
    for _ in range(_GREETINGS):
        try:
            return Client(address, timeout=_ANSWER)
        except AssertionError:
            continue
    raise ConnectionError(address)


def run_on_cluster(
    client: Client, function: Callable[[Job], Result], jobs: Iterable[Job], folders: Sequence[Path] = ()
) -> Iterator[tuple[int, Job, Result | Exception]]:
    """Yield the number of every job, the job, and what ``function`` returned or raised, in the order of completion.

    Only as many jobs are drawn as the workers can take soon. One that every worker died of, which Dask gives up after
    some deaths, is tried once more by itself, since another one may have killed them; if that fails too, it comes back
    with a :class:`KilledError`.

    Args:
        client: as :func:`connected` gives it.
        function: picklable; a worker unpickles it once, and keeps what it holds for the next job.
        jobs: its arguments, picklable.
        folders: what every worker must see, beside the current folder.

    Raises:
        ClusterError: workers that are not fit, none for a while, or a scheduler that went away.
    """
    call = pickle.dumps((_surroundings(folders), function))
    numbered = iter(enumerate(jobs))
    suspects: deque[tuple[int, Job]] = deque()
    running: dict[Future, tuple[int, Job]] = {}
    try:
        while True:
            free = _AHEAD * max(1, len(client.nthreads())) - len(running)
            for number, job in islice(numbered, max(0, free)):
                running[client.submit(_call, call, job, pure=False)] = number, job
            if not running:
                break
            for future in _some_done(client, running):
                number, job = running.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, KilledError):
                    suspects.append((number, job))
                else:
                    yield number, job, outcome
        for number, job in suspects:
            alone = client.submit(_call, call, job, pure=False)
            running[alone] = number, job
            yield number, job, _outcome(*_some_done(client, running))
            del running[alone]
    finally:
        if running:
            client.cancel(list(running))


class ClusterMapper:
    """Python's ``map`` on a cluster: a :class:`covidmm.utils.pool.Mapper`.

    Args:
        client: as :func:`connected` gives it.
        folders: as :func:`run_on_cluster`.
    """

    def __init__(self, client: Client, folders: Sequence[Path] = ()) -> None:
        self._client = client
        self._folders = folders

    def __call__(self, function: Callable[[Job], Result], jobs: Iterable[Job], /) -> Iterator[Result]:
        """Yield the results in the order of the jobs; those that are done too early wait.

        Raises:
            ClusterError: as :func:`run_on_cluster`, or a job that killed every worker that was given it.
        """
        waiting: dict[int, Any] = {}
        expected = 0
        for number, _, outcome in run_on_cluster(self._client, function, jobs, self._folders):
            if isinstance(outcome, KilledError):
                raise ClusterError(f"the workers that were given job {number + 1} died (memory, or a decoder)")
            if isinstance(outcome, Exception):
                raise outcome
            waiting[number] = outcome
            while expected in waiting:
                yield waiting.pop(expected)
                expected += 1


def _surroundings(folders: Sequence[Path]) -> tuple[str, list[str], dict[str, str]]:
    """Version, folders and variables of this process that the workers must match."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("COVIDMM_")}
    return covidmm.__version__, [str(folder) for folder in (Path.cwd(), *folders)], variables


def _call(call: bytes, job: Any) -> Any:
    """What a worker runs."""
    return _function(call)(job)


@lru_cache(maxsize=1)
def _function(call: bytes) -> Callable[[Any], Any]:
    (version, folders, variables), function = pickle.loads(call)
    worker = get_worker()
    if version != covidmm.__version__:
        raise ClusterError(f"worker {worker.address} has covidmm {covidmm.__version__}, not {version}")
    if worker.state.nthreads != 1:
        raise ClusterError(
            f"worker {worker.address} runs {worker.state.nthreads} threads in one process: "
            "start it with --nthreads 1, and --nworkers for more"
        )
    for folder in folders:
        if not Path(folder).is_dir():
            raise ClusterError(f"worker {worker.address} does not see {folder}: all machines need the same files")
    os.chdir(folders[0])  # so that relative paths mean the same
    os.environ.update(variables)
    cv2.setNumThreads(0)
    keep_freed_memory(RADIOGRAPHS)
    return function


def _some_done(client: Client, running: Iterable[Future]) -> list[Future]:
    """Wait until a job is done; those that are."""
    lonely = None
    while True:
        try:
            return list(wait(list(running), timeout=_POLL, return_when="FIRST_COMPLETED").done)
        except DaskTimeoutError:
            lonely = None if client.nthreads() else lonely or time.monotonic()
            if lonely is not None and time.monotonic() - lonely > _WITHOUT_WORKERS:
                raise ClusterError(f"the cluster has had no worker for {_WITHOUT_WORKERS} seconds") from None


def _outcome(future: Future) -> Any:
    """What a job returned, raised, or that it is given up.

    Raises:
        ClusterError: the worker is not fit, or the scheduler went away.
    """
    try:
        return future.result()
    except ClusterError:
        raise
    except KilledWorker:
        return KilledError()
    except CancelledError:
        raise ClusterError("the Dask scheduler went away, or lost the jobs") from None
    except ModuleNotFoundError as error:
        raise ClusterError(f"a Dask worker cannot import {error.name}: install covidmm there") from None
    except Exception as error:
        return error
