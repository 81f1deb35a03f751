"""Every op that covidmm serves: against a compiled MMCV, its own derivative, other precisions and memory layouts."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import mmcv_golden

import covidmm  # noqa: F401 - serves mmcv._ext
from covidmm.utils.mmcv_ops.served import SERVED, Ops

if not isinstance(importlib.import_module("mmcv._ext"), Ops):
    pytest.skip("this mmcv has compiled ops, covidmm.utils.mmcv_ops steps aside", allow_module_level=True)

import mmcv.ops

GOLDEN = np.load(Path(__file__).with_name("mmcv_golden.npz"))
#: Cases that MMCV computes on the CPU.
COMPILED = sorted({key.split("/")[0] for key in GOLDEN.files} - {"versions"})
DIFFERENTIABLE = [name for name, case in mmcv_golden.CASES.items() if case.differentiable]
#: Largest difference in float32: 1e-5 but where sums are long. Gradients of offsets are differences of neighbours.
TOLERANCE = {"deform_conv2d": 3e-5, "modulated_deform_conv2d": 2e-5}
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def inputs_of(name):
    return [GOLDEN[key] if (key := f"{name}/input{k}") in GOLDEN.files else None for k in range(5)]


def test_there_are_golden_values_of_every_op_that_mmcv_has_on_the_cpu():
    assert json.loads(str(GOLDEN["versions"]))["device"] == "cpu"
    without = {"roi_pool", "deform_roi_pool", "carafe", "masked_conv2d", "sigmoid_focal_loss", "softmax_focal_loss"}
    named = {name for name in mmcv_golden.CASES if not any(name.startswith(one) for one in without)}
    assert set(COMPILED) == named


def test_golden_values_are_not_made_by_covidmms_own_ops(tmp_path, capsys):
    assert mmcv_golden.main([str(tmp_path / "golden.npz")]) == 1
    assert "no compiled ops" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", COMPILED)
def test_an_op_computes_what_a_compiled_mmcv_computes(name, device):
    made = mmcv_golden.make_inputs(name)
    found = mmcv_golden.run(name, made, torch.float32, device)
    for index, one in enumerate(made):
        assert one is None or np.array_equal(one, GOLDEN[f"{name}/input{index}"])
    expected = {key.split("/")[1] for key in GOLDEN.files if key.startswith(f"{name}/") and "/input" not in key}
    assert set(found) == expected
    for key, array in found.items():
        golden = GOLDEN[f"{name}/{key}"]
        assert array.shape == golden.shape
        np.testing.assert_allclose(array, golden, rtol=0, atol=TOLERANCE.get(name, 1e-5), err_msg=key)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_the_function(name):
    """By finite differences in double precision."""
    case, arrays = mmcv_golden.CASES[name], mmcv_golden.make_inputs(name)
    tensors = [None if one is None else torch.from_numpy(np.array(one)) for one in arrays]
    leaves = [tensors[index].requires_grad_() for index in case.differentiable]

    def function(*values):
        called = list(tensors)
        for index, value in zip(case.differentiable, values, strict=True):
            called[index] = value
        return getattr(mmcv.ops, case.op)(*called, *case.options)

    # one random direction; all entries one by one take minutes
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_half_precision_is_near_the_result_of_its_rounded_inputs(name, dtype, device):
    arrays = [
        one if one is None or one.dtype == np.int64 else torch.from_numpy(one).to(dtype).double().numpy()
        for one in mmcv_golden.make_inputs(name)
    ]
    found = mmcv_golden.run(name, arrays, dtype, device)
    expected = mmcv_golden.run(name, arrays, torch.float32, device)
    rounding = 0.01 if dtype == torch.float16 else 0.05
    for key, array in found.items():
        size = max(1.0, np.abs(expected[key]).max())
        assert np.abs(array - expected[key]).max() <= rounding * size, key


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_autocast_changes_no_digit_of_what_is_given_in_single_precision(name):
    arrays = mmcv_golden.make_inputs(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = mmcv_golden.run(name, arrays, torch.float32)
    for key, array in mmcv_golden.run(name, arrays, torch.float32).items():
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if "focal" not in name])
def test_memory_layout_does_not_matter(name):
    case, arrays = mmcv_golden.CASES[name], mmcv_golden.make_inputs(name)
    tensors = [None if one is None else torch.from_numpy(np.array(one)) for one in arrays]
    expected = getattr(mmcv.ops, case.op)(*tensors, *case.options)
    spread = [one if one is None or one.dim() != 4 else one.to(memory_format=torch.channels_last) for one in tensors]
    assert torch.allclose(getattr(mmcv.ops, case.op)(*spread, *case.options), expected, atol=1e-12)


@pytest.mark.parametrize("op", ["roi_align", "roi_pool", "deform_roi_pool"])
def test_no_regions_pool_to_nothing(op):
    features = torch.rand(1, 3, 8, 8, requires_grad=True)
    options = {"roi_align": (2, 0.25), "roi_pool": (2, 0.25), "deform_roi_pool": (None, 2, 0.25)}[op]
    pooled = getattr(mmcv.ops, op)(features, torch.zeros(0, 5), *options)
    pooled.sum().backward()
    assert pooled.shape == (0, 3, 2, 2)
    assert not features.grad.any()


def test_every_op_that_is_served_is_called_by_a_case():
    called = set()

    class Recording:
        def __init__(self, name, op):
            self.name, self.op = name, op

        def __call__(self, *args, **kwargs):
            called.add(self.name)
            return self.op(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name, op in SERVED.items():
            patch.setitem(SERVED, name, Recording(name, op))
        for name in mmcv_golden.CASES:
            mmcv_golden.run(name, mmcv_golden.make_inputs(name), torch.float64)
    # MMCV's own wrapper refuses carafe_naive's gradient on the CPU; attention takes MMCV's Python there
    assert set(SERVED) - called == {"carafe_naive_backward", "ms_deform_attn_forward", "ms_deform_attn_backward"}


class _Called(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.case = mmcv_golden.CASES[name]

    def forward(self, *tensors):
        return getattr(mmcv.ops, self.case.op)(*tensors, *self.case.options)


@pytest.mark.parametrize(
    "name",
    ["nms", "bbox_overlaps", "roi_align", "deform_conv2d", "modulated_deform_conv2d", "carafe", "sigmoid_focal_loss"],
)
def test_an_op_can_be_exported(name):
    arrays = [torch.from_numpy(one) for one in mmcv_golden.make_inputs(name)]
    tensors = tuple(one.float() if one.is_floating_point() else one for one in arrays)
    module = _Called(name)
    exported = torch.export.export(module, tensors).module()(*tensors)
    for found, wanted in zip(_tuple(exported), _tuple(module(*tensors)), strict=True):
        torch.testing.assert_close(found, wanted)


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
