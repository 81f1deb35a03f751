import os
import signal
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
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)


def test_sigterm_raises_what_ctrl_c_does():
    with pytest.raises(Terminated) as stop:
        stop_oneself()
    assert isinstance(stop.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_forked_workers_leave_both_signals_to_their_parent():
    with stoppable():
        assert ends_of_children() == (True, 0)


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
