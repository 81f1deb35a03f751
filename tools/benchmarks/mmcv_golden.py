"""Write what a compiled MMCV computes on the CPU, for the tests of covidmm's ops.

python tools/benchmarks/mmcv_golden.py tests/utils/mmcv_golden.npz

Needs an mmcv that was compiled: in an environment with PyTorch, a C++ compiler and setuptools,
``MMCV_WITH_OPS=1 FORCE_CUDA=0 pip install --no-cache-dir --no-build-isolation --no-deps --no-binary :all: onedl-mmcv``.
Ops that MMCV has no CPU kernel for are named and left out; tests/utils/test_mmcv_ops.py has other references for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Args:
        op: name of a function of ``mmcv.ops``.
        inputs: makes the arrays that it is called with, from a random generator; in this order.
        options: further positional arguments.
        differentiable: which of the inputs have a gradient.
    """

    op: str
    inputs: Callable[[np.random.Generator], Sequence[NDArray | None]]
    options: tuple[Any, ...] = ()
    differentiable: tuple[int, ...] = ()


def _boxes(random: np.random.Generator, count: int, reach: float = 60) -> NDArray:
    corner = random.uniform(-5, reach, (count, 2))
    return np.concatenate([corner, corner + random.uniform(2, 40, (count, 2))], 1)


def _scored(random: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
    return _boxes(random, count), random.permutation(np.linspace(0.05, 0.95, count))


def _rois(random: np.random.Generator, count: int = 5, images: int = 2) -> NDArray:
    return np.concatenate([random.integers(0, images, (count, 1)), _boxes(random, count)], 1)


def _features(random: np.random.Generator, *shape: int) -> NDArray:
    return random.normal(size=shape)


def _deform(kernel: tuple[int, int], groups: int, offset_groups: int, size: tuple[int, int], modulated: bool) -> Any:
    """Input, offset, (mask,) weight, (bias) of a convolution whose output has ``size``."""

    def make(random: np.random.Generator) -> Sequence[NDArray | None]:
        taps = offset_groups * kernel[0] * kernel[1]
        image, weight = _features(random, 2, 4, 9, 11), _features(random, 6, 4 // groups, *kernel)
        offset = random.normal(scale=1.5, size=(2, 2 * taps, *size))
        if not modulated:
            return image, offset, weight
        return image, offset, random.uniform(size=(2, taps, *size)), weight, _features(random, 6)

    return make


def _pooled(options: tuple[Any, ...]) -> Case:
    return Case("roi_align", lambda r: (_features(r, 2, 3, 14, 18), _rois(r)), options, (0,))


CASES = {
    "nms": Case("nms", lambda r: _scored(r, 40), (0.4,)),
    "nms_offset": Case("nms", lambda r: _scored(r, 40), (0.4, 1)),
    "nms_empty": Case("nms", lambda r: (np.zeros((0, 4)), np.zeros(0)), (0.4,)),
    "soft_nms_naive": Case("soft_nms", lambda r: _scored(r, 30), (0.3, 0.5, 1e-3, "naive", 0)),
    "soft_nms_linear": Case("soft_nms", lambda r: _scored(r, 30), (0.3, 0.5, 0.05, "linear", 1)),
    "soft_nms_gaussian": Case("soft_nms", lambda r: _scored(r, 30), (0.3, 0.5, 0.2, "gaussian", 0)),
    "nms_match": Case("nms_match", lambda r: (np.concatenate([_boxes(r, 30), r.uniform(size=(30, 1))], 1),), (0.3,)),
    "bbox_overlaps": Case("bbox_overlaps", lambda r: (_boxes(r, 6), _boxes(r, 9))),
    "bbox_overlaps_iof": Case("bbox_overlaps", lambda r: (_boxes(r, 6), _boxes(r, 9)), ("iof", False, 1)),
    "bbox_overlaps_aligned": Case("bbox_overlaps", lambda r: (_boxes(r, 7), _boxes(r, 7)), ("iou", True, 0)),
    "roi_align": _pooled(((3, 4), 0.25, 0, "avg", True)),
    "roi_align_unaligned": _pooled(((3, 4), 0.25, 2, "avg", False)),
    "roi_align_max": _pooled(((3, 4), 0.25, 0, "max", True)),
    "roi_align_max_of_points": Case(
        "roi_align",
        lambda r: (_features(r, 1, 2, 9, 9), np.array([[0, 8.0, 8, 8, 8], [0, 5, 5, 30, 5]])),
        (2, 0.25, 0, "max"),
        (0,),
    ),
    "roi_align_max_unaligned": _pooled((2, 0.5, 3, "max", False)),
    "deform_conv2d": Case("deform_conv2d", _deform((3, 3), 1, 1, (9, 11), False), (1, 1, 1, 1, 1), (0, 1, 2)),
    "deform_conv2d_groups": Case(
        "deform_conv2d", _deform((3, 2), 2, 2, (3, 6), False), ((2, 2), (0, 1), (2, 1), 2, 2), (0, 1, 2)
    ),
    "modulated_deform_conv2d": Case(
        "modulated_deform_conv2d", _deform((3, 3), 1, 1, (9, 11), True), (1, 1, 1, 1, 1), (0, 1, 2, 3, 4)
    ),
    "modulated_deform_conv2d_groups": Case(
        "modulated_deform_conv2d", _deform((3, 2), 2, 2, (3, 6), True), ((2, 2), (0, 1), (2, 1), 2, 2), (0, 1, 2, 3, 4)
    ),
    # offsets of a larger map, as DyHead has them
    "modulated_deform_conv2d_of_larger_map": Case(
        "modulated_deform_conv2d", _deform((3, 3), 1, 1, (10, 12), True), (1, 1, 1, 1, 1), (0, 1, 2, 3, 4)
    ),
    "roi_pool": Case("roi_pool", lambda r: (_features(r, 2, 3, 14, 18), _rois(r)), ((3, 4), 0.25), (0,)),
    "deform_roi_pool": Case(
        "deform_roi_pool",
        lambda r: (_features(r, 2, 3, 14, 18), _rois(r), r.normal(size=(5, 2, 3, 4))),
        ((3, 4), 0.25, 0, 0.1),
        (0, 2),
    ),
    "deform_roi_pool_without_offsets": Case(
        "deform_roi_pool", lambda r: (_features(r, 2, 3, 14, 18), _rois(r), None), ((3, 4), 0.25, 2, 0.1), (0,)
    ),
    "carafe": Case("carafe", lambda r: (_features(r, 2, 4, 5, 6), r.uniform(size=(2, 18, 10, 12))), (3, 2, 2), (0, 1)),
    "carafe_naive": Case(
        "carafe_naive", lambda r: (_features(r, 1, 6, 4, 5), r.uniform(size=(1, 25, 12, 15))), (5, 1, 3)
    ),
    "masked_conv2d": Case(
        "masked_conv2d",
        lambda r: (_features(r, 1, 3, 7, 8), r.integers(0, 2, (1, 7, 8)), _features(r, 4, 3, 3, 3), _features(r, 4)),
        (1, 1),
    ),
    "sigmoid_focal_loss": Case(
        "sigmoid_focal_loss", lambda r: (_features(r, 9, 3), r.integers(0, 4, 9)), (2.0, 0.25, None, "sum"), (0,)
    ),
    "softmax_focal_loss": Case(
        "softmax_focal_loss", lambda r: (_features(r, 9, 4), r.integers(0, 4, 9)), (2.0, 0.25, None, "sum"), (0,)
    ),
}


def make_inputs(name: str) -> list[NDArray | None]:
    """The arrays that a case is called with: real ones in float64, whole ones in int64; always the same."""
    random = np.random.default_rng(sorted(CASES).index(name))
    return [None if one is None else np.asarray(one) for one in CASES[name].inputs(random)]


def run(name: str, inputs: Sequence[NDArray | None], dtype: torch.dtype, device: str = "cpu") -> Arrays:
    """Call the op of a case through mmcv.

    Args:
        name: the case.
        inputs: of :func:`make_inputs`.
        dtype: what real inputs are cast to.
        device: where it runs.

    Returns:
        ``output0`` and so on, in float64 where they are real, and ``gradientK`` of the K-th input for a cotangent of
        cosines of 0, 1, 2, ...
    """
    import mmcv.ops  # a compiled one, or what covidmm serves if that was imported before

    case = CASES[name]
    tensors = [None if one is None else _tensor(one, dtype, device) for one in inputs]
    for index in case.differentiable:
        tensors[index].requires_grad_()
    returned = getattr(mmcv.ops, case.op)(*tensors, *case.options)
    if case.op == "nms_match":
        returned = [torch.cat(returned), torch.tensor([len(group) for group in returned])]
    outputs = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    found = {f"output{index}": _array(one) for index, one in enumerate(outputs)}
    if case.differentiable:
        leaves = [tensors[index] for index in case.differentiable]
        gradients = torch.autograd.grad(outputs[0], leaves, cotangent(outputs[0]))
        for index, gradient in zip(case.differentiable, gradients, strict=True):
            found[f"gradient{index}"] = _array(gradient)
    return found


def cotangent(output: Tensor) -> Tensor:
    """What gradients are taken for: cosines of 0, 1, 2, ..., in the output's shape."""
    return torch.arange(output.numel(), dtype=torch.float64).cos().view(output.shape).to(output)


def _tensor(array: NDArray, dtype: torch.dtype, device: str) -> Tensor:
    tensor = torch.from_numpy(np.array(array)).to(device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _array(tensor: Tensor) -> NDArray:
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the .npz file to write")
    file = parser.parse_args(arguments).file
    spec = find_spec("mmcv._ext")
    if spec is None or spec.origin is None:  # none, or a stand-in that comes from no file
        print("this mmcv has no compiled ops", file=sys.stderr)
        return 1
    import mmcv

    arrays: Arrays = {}
    for name in sorted(CASES):
        inputs = make_inputs(name)
        try:
            found = run(name, inputs, torch.float32)
        except (RuntimeError, AssertionError) as error:
            print(f"left out: {name}: {str(error).splitlines()[0]}")
            continue
        arrays |= {f"{name}/input{index}": one for index, one in enumerate(inputs) if one is not None}
        arrays |= {f"{name}/{key}": one for key, one in found.items()}
    versions = {"mmcv": mmcv.__version__, "torch": torch.__version__, "device": "cpu", "dtype": "float32"}
    np.savez_compressed(file, versions=np.array(json.dumps(versions)), **arrays)
    print(f"{file}: {len({key.split('/')[0] for key in arrays})} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
