import pytest

from covidmm.errors import ConfigError
from covidmm.prepare.layouts import LAYOUTS, layout_module, layout_title


def test_every_module_is_a_layout_with_a_title():
    assert {"nih", "rsna", "siim"} <= set(LAYOUTS)
    for name in LAYOUTS:
        assert callable(layout_module(name).read_folder)
        assert layout_title(name) == layout_module(name).__doc__.splitlines()[0].rstrip(".")


def test_an_unknown_name_is_an_error_that_names_the_known_ones():
    with pytest.raises(
        ConfigError, match="unknown layout 'sim', expected one of coco, cvat, folder, label-studio, nih"
    ):
        layout_module("sim")
