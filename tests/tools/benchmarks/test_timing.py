import pytest
from benchmarks import timing


@pytest.fixture
def step(monkeypatch):
    """A function that makes steps of given seconds, and the list of those that were taken."""
    clock, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def make(name, seconds):
        seconds = iter(seconds)

        def run():
            order.append(name)
            clock[0] += next(seconds)

        return run

    return make, order


def test_steps_take_turns_and_the_first_of_each_is_not_counted(step):
    make, order = step
    found = timing.time_in_turn(make("ours", [1, 1, 2, 9]), make("reference", [100, 4, 40, 5]), repeats=3)
    # in pairs 1 of 4, 2 of 40, 9 of 5
    assert found == (pytest.approx(2), pytest.approx(5), pytest.approx(1 / 4))
    assert order == ["reference", "ours", "ours", "reference"] * 2


def test_a_step_of_many_seconds_needs_no_warming_up(step):
    make, order = step
    found = timing.time_in_turn(make("ours", [9, 8, 7]), make("reference", [10, 10, 10]), repeats=3)
    assert found == (8, 10, pytest.approx(0.8))
    assert order == ["reference", "ours", "ours", "reference", "reference", "ours"]
