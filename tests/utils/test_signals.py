import multiprocessing
import os
import signal
import sys
import time

import pytest

from covidmm.utils.signals import Terminated, stoppable


def ends_of_children():
    """How a forked child that gets ctrl-C, and then SIGTERM, ends: it waits for both in a loop of its own."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b"x")
        time.sleep(120)
        os._exit(7)
    os.read(ready, 1)
    os.kill(child, signal.SIGINT)
    time.sleep(0.05)
    survived = os.waitpid(child, os.WNOHANG)[0] == 0
    if not survived:
        return survived, None
    os.kill(child, signal.SIGTERM)
    return survived, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stop_oneself():
    with stoppable():
        stop_oneself_now()


def test_sigterm_raises_what_ctrl_c_does():
    with pytest.raises(Terminated) as stop:
        stop_oneself()
    assert isinstance(stop.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_forked_workers_leave_both_signals_to_their_parent():
    with stoppable():
        assert ends_of_children() == (True, 0)


def exit_code_of_a_worker_when_stopped_by(number):
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(120,), daemon=True)
    try:
        with stoppable():
            worker.start()
            os.kill(os.getpid(), number)
            time.sleep(120)
    except KeyboardInterrupt:
        return worker.exitcode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_workers_of_data_loaders_before_anything_else(number):
    assert exit_code_of_a_worker_when_stopped_by(number) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def lose_a_stop_in_a_finalizer():
    class Final:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with stoppable():
        Final()
        time.sleep(120)


def make_another_error_of_a_stop():
    with stoppable():
        try:
            stop_oneself_now()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None


def stop_oneself_now():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(120)


@pytest.mark.parametrize("lose", [lose_a_stop_in_a_finalizer, make_another_error_of_a_stop])
def test_a_stop_that_is_dropped_or_disguised_is_a_stop(lose):
    usual = sys.unraisablehook
    with pytest.raises(Terminated):
        lose()
    assert sys.unraisablehook is usual


def test_an_error_without_a_stop_stays_itself():
    with pytest.raises(ImportError), stoppable():
        raise ImportError


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a worker with its parent")
def test_a_forked_worker_ends_with_a_parent_that_is_killed():
    ready, told = os.pipe()
    parent = os.fork()
    if parent == 0:
        with stoppable():
            if os.fork() == 0:
                os.write(told, b"x")
                time.sleep(600)
                os._exit(0)
            time.sleep(600)
    os.close(told)
    assert os.read(ready, 1) == b"x"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(ready, 1) == b""  # the last one that held the other end is gone
