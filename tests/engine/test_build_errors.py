"""Errors of constructors, named by their class."""

import pytest
from mmdet.registry import MODELS

import covidmm.registration  # noqa: F401 - registers
from covidmm.engine.build_errors import build_errors_named
from covidmm.errors import ConfigError


def test_an_error_of_a_constructor_is_one_line_with_its_class():
    model = {"type": "mmdet.FPN", "in_channels": [8, 8], "out_channels": 8, "num_outs": 1}
    with (
        pytest.raises(ConfigError, match="FPN cannot be built from the config: AssertionError: assert num_outs >="),
        build_errors_named(),
    ):
        MODELS.build(model)
    backbone = {"type": "mmdet.ResNet", "depth": 7}
    with (
        pytest.raises(ConfigError, match="ResNet cannot be built from the config: KeyError: 'invalid depth 7"),
        build_errors_named(),
    ):
        MODELS.build(backbone)


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match="mine"), build_errors_named():
        raise ValueError("mine")
