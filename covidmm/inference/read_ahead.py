"""Decoding in the background, while the networks work on what was decoded before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")


def read_ahead(items: Iterator[_Item], depth: int) -> Iterator[_Item]:
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
