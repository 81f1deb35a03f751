"""A bounded queue of jobs with one worker thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class QueueFullError(Exception):
    """The queue is full.

    Attributes:
        retry_after: seconds, at least 1, after which the queue should be empty.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full, retry in {retry_after} s")
        self.retry_after = retry_after


class JobQueue:
    """Runs jobs one after the other in a thread of its own.

    Args:
        name: of the thread.
        size: how many jobs may wait or run.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._pending = 0
        self._mean = 0.0

    @property
    def pending(self) -> int:
        """Jobs that wait or run."""
        return self._pending

    def submit(self, job: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        """Queue a job; cancelling its future before it starts removes it.

        Raises:
            QueueFullError: too many wait already.
        """
        with self._lock:
            if self._pending >= self.size:
                raise QueueFullError(max(1, math.ceil(self._mean * self._pending)))
            self._pending += 1
        future = self._pool.submit(self._timed, job, *arguments)
        future.add_done_callback(self._finished)
        return future

    def close(self) -> None:
        """Drop waiting jobs and wait for the running one."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, job: Callable[..., _Result], *arguments: Any) -> _Result:
        start = time.monotonic()
        try:
            return job(*arguments)
        finally:
            taken = time.monotonic() - start
            # a running mean of about the last ten jobs
            self._mean = taken if not self._mean else 0.9 * self._mean + 0.1 * taken

    def _finished(self, _: Future) -> None:
        with self._lock:
            self._pending -= 1
