import pytest

from covidmm.benchmarks import timing


def test_steps_take_turns_and_the_first_of_each_is_not_counted(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def step(name, seconds):
        seconds = iter(seconds)

        def run():
            order.append(name)
            clock[0] += next(seconds)

        return run

    found = timing.time_in_turn(step("ours", [100, 1, 2, 9]), step("reference", [100, 4, 40, 5]), repeats=3)
    # in pairs 1 of 4, 2 of 40, 9 of 5
    assert found == (pytest.approx(2), pytest.approx(5), pytest.approx(1 / 4))
    assert order == ["ours", "reference"] * 4
