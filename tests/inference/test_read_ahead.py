"""Reading ahead: order, errors, bounded memory, and overlap."""

import threading

import pytest

from covidmm.inference.read_ahead import read_ahead


@pytest.mark.parametrize("count", [0, 1, 3, 20])
@pytest.mark.parametrize("depth", [1, 4])
def test_order_is_kept_and_nothing_is_lost(count, depth):
    assert list(read_ahead(iter(range(count)), depth)) == list(range(count))


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    ahead = read_ahead(items(), 4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)


def test_no_more_than_the_depth_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    ahead = read_ahead(items(), 3)
    for taken in range(1, 20):
        next(ahead)
        assert len(made) <= taken + 3


def test_work_overlaps():
    made = [threading.Event() for _ in range(6)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in read_ahead(items(), 2):
        # while the caller works on one item, the next two are made
        assert all(event.wait(60) for event in made[number : number + 3])


def test_the_thread_ends_with_a_reader_that_stops_early():
    ahead = read_ahead(iter(range(100)), 3)
    next(ahead)
    ahead.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("read-ahead")]
