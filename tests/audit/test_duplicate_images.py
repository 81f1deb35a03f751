import pytest

from covidmm.audit.checks import Level
from covidmm.audit.duplicate_images import check_duplicates
from covidmm.prepare.near_duplicates import Pair


@pytest.mark.parametrize(
    ("first", "second", "level", "where"),
    [
        ({"split": "train"}, {"split": "test"}, Level.FAULT, "across splits"),
        ({"split": "train"}, {"split": "test", "study_id": "study1"}, Level.FAULT, "across splits"),
        ({"split": "train"}, {"split": "val", "dataset": "b"}, Level.FAULT, "across splits"),
        ({}, {"dataset": "b"}, Level.WARNING, "across data sets"),
        ({}, {}, Level.WARNING, "within a split"),
        ({}, {"study_id": "study1"}, Level.OK, None),
    ],
)
def test_where_a_pair_stands_decides(entry, first, second, level, where):
    check = check_duplicates([entry(1, **first), entry(2, **second)], [Pair(0, 1, False)])
    assert check.level is level
    assert check.numbers["where"] == ({where: 1} if where else {})
    assert len(check.tables[0].rows) == (where is not None)
