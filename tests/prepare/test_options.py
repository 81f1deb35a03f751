import pytest

from covidmm.errors import ConfigError
from covidmm.prepare.options import Options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_size", 15),
        ("val_fold", 5),
        ("val_fold", -1),
        ("test_fraction", 1.0),
        ("test_fraction", -0.1),
        ("test_fraction", float("nan")),
        ("split", "valid"),
        ("workers", 0),
    ],
)
def test_refuses_a_value_out_of_range(name, value):
    with pytest.raises(ConfigError, match=f"option {name}: expected"):
        Options(**{name: value})


def test_the_defaults_are_valid():
    assert Options().workers >= 1
