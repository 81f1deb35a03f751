import pytest
import torch

from covidmm.utils.precision import fastest_precision


@pytest.mark.parametrize(
    ("units", "device", "wanted"),
    [
        ({"avx512_bf16": True}, "cpu", "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "cpu", "bfloat16"),
        ({"avx512_f": True}, "cpu", "float32"),
        ({}, "cuda", "float16"),
    ],
)
def test_the_fastest_precision_is_one_that_the_machine_has_units_for(units, device, wanted, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert fastest_precision(device) == wanted
