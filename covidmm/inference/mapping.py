"""Where the networks run: in this process, which reads ahead, in all processes of torchrun, or on a Dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.dist import broadcast_object_list, gather_object, get_world_size

from covidmm.engine.launch import launched
from covidmm.errors import ConfigError
from covidmm.inference.core import Decoded, Work
from covidmm.utils.distributed import is_first
from covidmm.utils.pool import Mapper

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")

# How long the others wait while the first process reads, fuses and writes. A dead process is noticed at once; chosen
# here to be longer than any of this takes.
_PATIENCE = timedelta(days=7)


@contextmanager
def sharing(launcher: str, scheduler: str | None, folders: Sequence[Path]) -> Iterator[Mapper | None]:
    """What maps the networks over batches, for the length of a block.

    Args:
        launcher: ``none``, or ``pytorch`` under torchrun.
        scheduler: address of a Dask scheduler, or None.
        folders: what Dask's workers must see.

    Yields:
        The mapper; None in a process that has served another one, and has nothing else to do.

    Raises:
        ConfigError: both a launcher and a scheduler, or one that cannot be used.
        ClusterError: processes or workers that cannot be reached, or that went away.
    """
    if scheduler is not None:
        if launcher != "none":
            raise ConfigError("--launcher and --scheduler: choose one of them")
        from covidmm.utils.dask_pool import ClusterMapper, connected  # needs the extra 'distributed'

        with connected(scheduler) as client:
            yield ClusterMapper(client, folders)
    elif launcher == "none":
        with launched(launcher):
            yield map_here
    else:
        with launched(launcher, objects_only=True, patience=_PATIENCE):
            if is_first():
                mapper = RankMapper()
                yield mapper
                mapper.dismiss()
            else:
                serve()
                yield None


def map_here(work: Work, jobs: Iterable[Any]) -> Iterator[Any]:
    """A :class:`~covidmm.utils.pool.Mapper` in this process, which reads the next job's images meanwhile."""
    for job, decoded in decoded_ahead(work, jobs):
        yield work.ask(job, decoded)


def decoded_ahead(work: Work, jobs: Iterable[Any]) -> Iterator[tuple[Any, list[Decoded]]]:
    """Each job with its images, which a thread reads in advance: as many as the first job has.

    Args:
        work: reads.
        jobs: at least one image in each; drawn by that thread.
    """
    jobs = iter(jobs)
    for first in islice(jobs, 1):
        images = ((job, work.decode(job, index)) for job in chain([first], jobs) for index in range(len(job.images)))
        ahead = read_ahead(images, len(first.images))
        for job, decoded in ahead:
            yield job, [decoded, *(one for _, one in islice(ahead, len(job.images) - 1))]


def read_ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items in the same order, up to ``depth`` of them made in advance by one thread.

    An error comes where it would have come without the thread. Decoders and OpenCV release the interpreter's lock,
    so that one thread is enough to overlap.

    Args:
        items: makes one item after the other; never called by two threads at once.
        depth: how many may wait, which bounds the memory.
    """
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


class RankMapper:
    """Python's ``map`` in the first of several processes: each of them, this one too, takes every n-th job.

    The others are in :func:`serve` meanwhile.
    """

    def __call__(self, function: Callable[[Job], Result], jobs: Iterable[Job], /) -> Iterator[Result]:
        """Yield the results in the order of the jobs; what any process raised is raised here."""
        count = get_world_size()
        broadcast_object_list([function])
        jobs = iter(jobs)
        while round_ := [(job,) for job in islice(jobs, count)]:
            # an empty one where the jobs have come to an end
            own = _receive([*round_, *[()] * (count - len(round_))])
            for outcome in gather_object(_try(function, own))[: len(round_)]:
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
        _receive([None] * count)

    def dismiss(self) -> None:
        """End :func:`serve` in the other processes."""
        broadcast_object_list([None])


def serve() -> None:
    """Do what the first process's :class:`RankMapper` asks for, until its ``dismiss()``."""
    asked: list[Any] = [None]
    while True:
        broadcast_object_list(asked)
        function = asked[0]
        if function is None:
            return
        while (job := _receive(None)) is not None:
            gather_object(_try(function, job))


def _receive(jobs: list[Any] | None) -> Any:
    """This process's part of what the first one hands out."""
    own: list[Any] = [None]
    torch.distributed.scatter_object_list(own, jobs)
    return own[0]


def _try(function: Callable[[Any], Any], job: tuple[Any, ...]) -> Any:
    try:
        return function(*job) if job else None
    except Exception as error:  # the first process raises it
        return error
