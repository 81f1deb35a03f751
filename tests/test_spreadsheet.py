"""Tables for spreadsheets."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from covidmm.spreadsheet import csv_bytes


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00")), min_size=2, max_size=2)))
def test_no_cell_begins_a_formula_and_nothing_is_lost(rows):
    found = list(csv.reader(io.StringIO(csv_bytes(("a", "b"), rows).decode(), newline="")))
    assert found[0] == ["a", "b"]
    for wanted, cells in zip(rows, found[1:], strict=True):
        for value, cell in zip(wanted, cells, strict=True):
            assert not cell.startswith(("=", "+", "-", "@", "\t"))
            assert cell in (value, f"'{value}")


def test_numbers_are_left_alone_and_text_in_front_of_a_formula_too():
    rows = [(-0.5, 1e-9), ("-0.5", "a=1"), (None, "=1+1")]
    assert csv_bytes(("x", "y"), rows) == b"x,y\n-0.5,1e-09\n'-0.5,a=1\n,'=1+1\n"


def test_a_lone_surrogate_of_a_file_name_is_no_error():
    assert csv_bytes(("x",), [("\udcff.dcm",)]) == b"x\n?.dcm\n"
