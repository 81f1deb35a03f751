import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.web.problems import ProblemError
from covidmm.web.uploads import Limits, Receiver, plain_name


@given(st.text())
def test_a_plain_name_is_short_printable_and_no_path(name):
    found = plain_name(name)
    assert 0 < len(found) <= 60
    assert found.isprintable()
    assert not set(found) & set("/\\:<>\"'&\r\n\0")


@given(st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40))
def test_a_good_name_stays(name):
    assert plain_name(f"a/b\\{name}.dcm") == f"{name}.dcm"


def test_no_name():
    assert plain_name(None) == plain_name("") == plain_name("..\\/").replace("..", "no name") == "no name"


def test_bytes_are_counted_refused_and_given_back():
    receiver = Receiver(Limits(request_bytes=10, total_bytes=15))
    with receiver.incoming() as one:
        one.add(10)
        with pytest.raises(ProblemError) as large:
            one.add(1)
        with receiver.incoming() as other:
            other.add(5)
            with pytest.raises(ProblemError) as full:
                other.add(1)
        assert receiver.held == 10
    assert receiver.held == 0
    assert (large.value.status, full.value.status) == (413, 503)
    assert full.value.headers == {"Retry-After": "5"}
