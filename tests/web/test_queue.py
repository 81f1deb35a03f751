import itertools
import threading
from types import SimpleNamespace

import pytest

from covidmm.web.queue import JobQueue, QueueFullError


@pytest.fixture
def queue():
    made = JobQueue("test", 2)
    yield made
    made.close()


def test_jobs_run_in_their_order_in_one_thread(queue):
    first, second = queue.submit(threading.get_ident), queue.submit(threading.get_ident)
    assert first.result() == second.result() != threading.get_ident()


def test_one_more_than_the_size_is_refused_and_the_place_comes_back(queue):
    release = threading.Event()
    held = [queue.submit(release.wait) for _ in range(2)]
    with pytest.raises(QueueFullError) as refused:
        queue.submit(print)
    assert refused.value.retry_after >= 1
    release.set()
    assert [one.result() for one in held] == [True, True]
    assert queue.submit(lambda: 5).result() == 5


def test_a_job_that_is_cancelled_before_it_begins_leaves_its_place(queue):
    release, ran = threading.Event(), []
    held = queue.submit(release.wait)
    waiting = queue.submit(ran.append, 1)
    assert waiting.cancel()
    assert queue.pending == 1
    release.set()
    held.result()
    queue.submit(int).result()
    assert ran == []


def test_a_job_that_fails_leaves_its_place(queue):
    with pytest.raises(ZeroDivisionError):
        queue.submit(lambda: 1 / 0).result()
    assert queue.submit(lambda: 1).result() == 1


def test_the_wait_that_is_told_grows_with_the_work(monkeypatch):
    # every look at the clock is 0.7 s after the one before
    monkeypatch.setattr("covidmm.web.queue.time", SimpleNamespace(monotonic=itertools.count(0, 0.7).__next__))
    queue, release = JobQueue("slow", 3), threading.Event()
    queue.submit(int).result()
    for _ in range(3):
        queue.submit(release.wait)
    with pytest.raises(QueueFullError) as refused:
        queue.submit(print)
    assert refused.value.retry_after == 3  # three times 0.7 s, in whole seconds
    release.set()
    queue.close()
