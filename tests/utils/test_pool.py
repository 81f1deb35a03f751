"""``eval`` is the job function: the processes can import it, and each job says what shall happen."""

import os
import time

import pytest

from covidmm.utils.pool import WorkerCrashedError, run_each

DIE = "__import__('os').abort()"


def test_returns_every_result():
    jobs = [f"{n} * {n}" for n in range(20)]
    assert dict(run_each(eval, jobs, workers=2)) == {job: eval(job) for job in jobs}
    assert list(run_each(eval, [], workers=2)) == []


def test_jobs_are_drawn_when_they_are_needed():
    drawn = []

    def jobs():
        for number in range(1000):
            drawn.append(number)
            yield DIE if number == 3 else str(number)

    results = run_each(eval, jobs(), workers=2)
    for count, _ in enumerate(results, start=1):
        assert len(drawn) <= count + 5
        if count == 20:
            break
    results.close()


def test_an_error_is_an_outcome():
    outcomes = dict(run_each(eval, ["1 / 0", "2"], workers=2))
    assert isinstance(outcomes["1 / 0"], ZeroDivisionError)
    assert outcomes["2"] == 2


def test_only_the_job_that_kills_its_process_is_lost():
    jobs = [str(n) for n in range(10)]
    outcomes = dict(run_each(eval, [*jobs[:5], DIE, *jobs[5:]], workers=2))
    assert isinstance(outcomes.pop(DIE), WorkerCrashedError)
    assert outcomes == {job: int(job) for job in jobs}


def test_works_in_other_processes_that_ignore_ctrl_c():
    job = "__import__('os').getpid(), __import__('signal').getsignal(2) == 1, __import__('cv2').getNumThreads()"
    ((_, (pid, ignores, threads)),) = run_each(eval, [job], workers=1)
    assert pid != os.getpid()
    assert ignores
    assert threads <= 1


def test_stopping_early_leaves_no_process():
    results = run_each(eval, ["__import__('os').getpid()"] * 50, workers=1)
    _, pid = next(results)
    results.close()
    for _ in range(1200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"worker {pid} still runs")
