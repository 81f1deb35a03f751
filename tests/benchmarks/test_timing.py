import time

from covidmm.benchmarks.timing import time_in_turn


def test_both_take_turns_and_the_first_run_of_each_does_not_count():
    order = []

    def step(name, naps):
        def run():
            order.append(name)
            time.sleep(naps.pop(0))

        return run

    ours, reference = time_in_turn(step("ours", [0.2, 0.01, 0.01, 0.01]), step("plain", [0.0, 0.05, 0.05, 0.05]), 3)
    assert order == ["ours", "plain"] * 4
    assert 0.01 <= ours < 0.04
    assert 0.05 <= reference < 0.1
