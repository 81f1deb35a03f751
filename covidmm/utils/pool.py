"""Runs one function over many jobs in worker processes, and survives workers that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import chain, islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Protocol, TypeVar

import cv2

from covidmm.utils.malloc import RADIOGRAPHS, keep_freed_memory

Job = TypeVar("Job")
Result = TypeVar("Result")


class Mapper(Protocol):
    """Python's ``map``, or something that does the same in other processes: results in the order of the jobs."""

    def __call__(self, function: Callable[[Job], Result], jobs: Iterable[Job], /) -> Iterator[Result]:
        """Yield what ``function`` returns for every job; what it raises is raised here."""


# Jobs handed out per worker: enough to keep it busy, few enough to retry one by one when a process dies.
_AHEAD = 2
_CRASHED = "decoder crashed: its process died (or ran out of memory)"


class WorkerCrashedError(Exception):
    """The process that ran a job died: a codec crashed, or memory ran out."""


def run_each(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    scheduler: str | None = None,
    folders: Sequence[Path] = (),
) -> Iterator[tuple[Job, Result | Exception]]:
    """Yield every job with what ``function`` returned or raised, in the order of completion.

    When a process dies, the jobs that were running are tried again one at a time, so that only the one
    that kills its process is lost; it comes back with a :class:`WorkerCrashedError`.

    Args:
        function: a module-level function.
        jobs: its arguments, picklable; only as many are drawn as the workers can take soon.
        workers: number of processes.
        scheduler: address of a Dask scheduler whose workers take the place of the processes.
        folders: what those must see.

    Raises:
        ClusterError: a scheduler or workers that cannot be used, or that went away.
    """
    if scheduler is not None:
        yield from _run_on_cluster(function, jobs, scheduler, folders)
        return
    rest = iter(jobs)
    for first in rest:
        for job in (yield from _run_until_crash(function, chain((first,), rest), workers)):
            yield job, _run_alone(function, job)


def _run_on_cluster(
    function: Callable[[Job], Result], jobs: Iterable[Job], scheduler: str, folders: Sequence[Path]
) -> Iterator[tuple[Job, Result | Exception]]:
    from covidmm.utils.dask_pool import KilledError, connected, run_on_cluster  # needs an extra

    with connected(scheduler) as client, closing(run_on_cluster(client, function, jobs, folders)) as results:
        for _, job, outcome in results:
            yield job, WorkerCrashedError(_CRASHED) if isinstance(outcome, KilledError) else outcome


def _run_until_crash(
    function: Callable[[Job], Result], jobs: Iterator[Job], workers: int
) -> Generator[tuple[Job, Result | Exception], None, list[Job]]:
    """Work through the jobs; returns those that were under way when a process died, none at the end."""
    pool = _pool(workers)  # it starts a process when a job needs one
    running: dict[Future[Result], Job] = {}
    try:
        while True:
            for job in islice(jobs, workers * _AHEAD - len(running)):
                try:
                    running[pool.submit(function, job)] = job
                except BrokenProcessPool:
                    return [*running.values(), job]
            if not running:
                return []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if isinstance(future.exception(), BrokenProcessPool):
                    return list(running.values())
                yield running.pop(future), _outcome(future)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_alone(function: Callable[[Job], Result], job: Job) -> Result | Exception:
    with _pool(1) as pool:
        outcome = _outcome(pool.submit(function, job))
    if isinstance(outcome, BrokenProcessPool):
        return WorkerCrashedError(_CRASHED)
    return outcome


def _outcome(future: Future[Result]) -> Result | Exception:
    try:
        return future.result()
    except Exception as error:
        return error


def _pool(workers: int) -> ProcessPoolExecutor:
    # Never fork: OpenCV and BLAS threads of this process do not survive it.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["covidmm.prepare.pixels"])
        _start_server(context)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


def _start_server(context: multiprocessing.context.ForkServerContext) -> None:
    """Start the server that forks workers, with its imports done; on ctrl-C meanwhile it would end in a traceback.

    So SIGINT is blocked for that half second here, and for good in the server, which inherits this. Python starts the
    server with ``-c``, which would import a ``threading.py`` of the current folder, and that may be one of data.
    """
    with _elsewhere():
        resource_tracker.ensure_running()  # when it starts later, it lets the signal through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            first = context.Process(target=int)
            first.start()
            first.join()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Make the folder of the package the current one; processes that are started for jobs return by themselves."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(Path(__file__).parents[2])
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def _start() -> None:
    """Make a worker leave ctrl-C to its parent, use one thread, and end when its parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    keep_freed_memory(RADIOGRAPHS)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
