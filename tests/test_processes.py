"""Which process this is."""

from covidmm.processes import is_first, rank


def test_a_process_of_its_own_is_the_first(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert (rank(), is_first()) == (0, True)


def test_torchrun_tells_the_others(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert (rank(), is_first()) == (3, False)
