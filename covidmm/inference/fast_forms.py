"""Faster forms of a detector, each taken only where it answers with the same boxes.

* A batch norm that no longer learns is a factor and a shift of the convolution before it, if that convolution serves no
  other: one that several levels share, each with a norm of its own (RTMDet, EfficientDet), must stay.
* Images are predicted in batches; a few models take one image at a time (Guided Anchoring).
* Convolutions in channels-last layout take 0.6 to 0.7 of the time on a CPU (ResNet-18, 256 px), and tensor cores want
  it; a model that views its features in the usual layout fails with it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import mmcv
import mmdet
import numpy as np
import torch
from mmcv.cnn.bricks import wrappers
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.logging import print_log
from torch import Tensor, nn

from covidmm.utils.fileio import write_bytes
from covidmm.utils.provenance import sha256

#: Chosen here: a form is taken if no box moves by more pixels.
TOLERANCE = 1e-3
#: Chosen here: and no raw output by more of the largest one.
RELATIVE = 1e-6
#: Chosen here: sides of the two images of the comparison, in pixels, and those for models that fail on such small ones.
SIDES = (128, 320)
#: Chosen here: with fewer boxes on both, raw outputs are compared as well.
ENOUGH = 10

_CONVOLUTIONS = (nn.Conv2d, wrappers.Conv2d)
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def take_fast_forms(model: nn.Module, name: str, made_from: Mapping[str, Any]) -> Forms:
    """Bring a detector into its fastest forms that answer with the same boxes; in place.

    The forms are compared in double precision on two images the first time that this model is seen; what was found is
    kept in ``$COVIDMM_CACHE`` (``~/.cache/covidmm``) under the hash of ``made_from``, of the source of the model's
    classes, and of the versions of the libraries.

    Args:
        model: a detector in evaluation mode, in single precision on the CPU.
        name: what it is called in the log.
        made_from: what decides its weights and code: hashes of its config and checkpoint.

    Returns:
        What was done.
    """
    file = _cache_file(model, made_from)
    taken = _known(file)
    if taken is None:
        taken = compared_forms(model)
        _remember(file, taken)
    taken.apply(model)
    for reason in taken.left:
        print_log(f"member '{name}' {reason}", "current")
    return taken


def fold_batch_norms(model: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Multiply batch norms into the convolutions before them; in place.

    Args:
        model: in evaluation mode.
        pairs: names of convolutions and of the norms that they alone feed.
    """
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        conv.weight = nn.Parameter((conv.weight * factor[:, None, None, None]).detach())
        conv.bias = nn.Parameter((bias * factor + norm.bias).detach())
        parent, _, own = norm_name.rpartition(".")
        model.get_submodule(parent)._modules[own] = nn.Identity()


def private_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Convolutions followed by a batch norm that nothing else shares with them, by name.

    A pair is two children of one module, one after the other. Neither has another name in the model, a hook, or a
    parameter that another module holds too, and the convolution's class computes with its weight as it is.
    """
    names = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    owners = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))

    def alone(module: nn.Module) -> bool:
        hooks = (module._forward_hooks, module._forward_pre_hooks)
        return (
            names[id(module)] == 1 and not any(hooks) and all(owners[id(one)] == 1 for one in module.parameters(False))
        )

    pairs = []
    for parent_name, parent in model.named_modules():
        children = [(f"{parent_name}.{own}".lstrip("."), child) for own, child in parent.named_children()]
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if (
                type(conv) in _CONVOLUTIONS
                and type(norm) in _NORMS
                and norm.affine
                and norm.track_running_stats
                and not norm.training
                and norm.num_features == conv.out_channels
                and alone(conv)
                and alone(norm)
            ):
                pairs.append((conv_name, norm_name))
    return pairs


@dataclass(frozen=True)
class Forms:
    """What is done to a model.

    Attributes:
        pairs: convolutions and the batch norms that are folded into them, by name.
        channels_last: whether its convolutions get that layout.
        singly: whether it takes one image at a time.
        left: what is not done and why, to be said after the model's name.
        failed: whether the model answered no image of the comparison.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    channels_last: bool = False
    singly: bool = False
    left: list[str] = field(default_factory=list)
    failed: bool = False

    def apply(self, model: nn.Module) -> None:
        """Bring a model into these forms, in place."""
        fold_batch_norms(model, self.pairs)
        if self.channels_last:
            # some detectors' own `to` takes a device alone
            nn.Module.to(model, memory_format=torch.channels_last)


def compared_forms(model: nn.Module) -> Forms:
    """The forms in which a model answers as it does without them."""
    with _pairs_in_use(model) as pairs:
        usual, *how = _asked(model)
    if isinstance(usual, Exception):
        return Forms(left=[f"runs as it was built, it cannot be compared: {_short(usual)}"], failed=True)
    if not usual:
        return Forms(left=["runs as it was built: it finds no box that could be compared"])
    taken = Forms()
    if how[-1]:
        taken = Forms(singly=True, left=["predicts one image at a time, it fails on several"])
    for change, what in (
        ({"pairs": pairs}, "keeps its batch norms: folded into convolutions"),
        ({"channels_last": True}, "keeps the usual memory layout: channels last"),
    ):
        tried = replace(taken, **change)
        changed = copy.deepcopy(model)
        tried.apply(changed)
        found = _answers(changed, *how)
        reason = f"it fails ({_short(found)})" if isinstance(found, Exception) else _difference(usual, found)
        taken = tried if reason is None else replace(taken, left=[*taken.left, f"{what}, {reason}"])
    return taken


def _asked(model: nn.Module) -> tuple[list[Tensor] | Exception, torch.dtype, int, bool]:
    """A model's answers, in which precision and image size it gives them, and whether to one image at a time.

    In double precision no rounding changes which boxes a model keeps; a model that needs single is asked in that.
    """
    for how in product((torch.float64, torch.float32), SIDES, (False, True)):
        found = _answers(model, *how)
        if not isinstance(found, Exception):
            break
    return found, *how


def _answers(model: nn.Module, dtype: torch.dtype, side: int, singly: bool) -> list[Tensor] | Exception:
    """Boxes with scores (N, 5) of two images, then the network's raw outputs; or the error that it ends with."""
    try:
        wide = copy.deepcopy(model).to(dtype) if dtype != torch.float32 else model
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # some detectors start from random boxes
            results = [one for batch in _probes(side, singly) for one in wide.test_step(batch)]
            found = [result.pred_instances for result in results]
            boxes = [torch.cat([get_box_tensor(one.bboxes), one.scores[:, None]], 1).double() for one in found]
            boxes = [one for one in boxes if len(one)]
            return boxes if sum(map(len, boxes)) >= ENOUGH else [*boxes, *_raw_outputs(wide, side, singly)]
    except Exception as error:  # a model may fail in any way; it is then said how
        return error


def _raw_outputs(model: nn.Module, side: int, singly: bool) -> list[Tensor]:
    """The network's outputs before thresholds; none of a detector without such a mode."""
    torch.manual_seed(0)
    batches = [model.data_preprocessor(batch) for batch in _probes(side, singly)]
    try:
        return [one.double() for batch in batches for one in _tensors(model(**batch, mode="tensor"))]
    except Exception:  # many detectors do not implement it, and their boxes are compared all the same
        return []


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping | list | tuple):
        for one in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _tensors(one)


def _difference(usual: list[Tensor], found: list[Tensor]) -> str | None:
    """What differs, in words; None if nothing does."""
    if len(usual) != len(found) or any(one.shape != other.shape for one, other in zip(usual, found, strict=True)):
        return "it would find another number of boxes"
    for one, other in zip(usual, found, strict=True):
        if not one.numel():
            continue
        if one.dim() == 2 and one.shape[1] == 5:
            # in any order: equal scores have none
            moved = float((one[:, None] - other).abs().amax(-1).amin(1).max())
            if not moved <= TOLERANCE:
                return f"its boxes would move by {moved:.3g} pixels"
        elif not float((one - other).abs().max()) <= RELATIVE * max(1.0, float(one.abs().max())):
            return "its outputs would change"
    return None


@contextmanager
def _pairs_in_use(model: nn.Module) -> Iterator[list[tuple[str, str]]]:
    """In the end, the private pairs whose norm was called, and each time with what its convolution gave last."""
    last: dict[str, Tensor] = {}
    fed: dict[tuple[str, str], bool] = {}
    hooks = []
    for pair in private_pairs(model):

        def remember(module: nn.Module, args: Any, output: Tensor, pair: tuple[str, str] = pair) -> None:
            last[pair[0]] = output

        def check(module: nn.Module, args: tuple[Any, ...], pair: tuple[str, str] = pair) -> None:
            fed[pair] = last.pop(pair[0], None) is args[0] and fed.get(pair, True)

        hooks.append(model.get_submodule(pair[0]).register_forward_hook(remember))
        hooks.append(model.get_submodule(pair[1]).register_forward_pre_hook(check))
    pairs: list[tuple[str, str]] = []
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()
        pairs += [pair for pair, right in fed.items() if right]


def _probes(side: int, singly: bool) -> list[dict[str, Any]]:
    """Two grey images with soft blobs, as a pipeline packs them: one batch, or one of each."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    inputs, samples = [], []
    for index in range(2):
        image = np.zeros((side, side))
        for y, x, radius in random.uniform((0, 0, 8), (side, side, 60), (12, 3)):
            image += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
        grey = torch.from_numpy((255 * image / image.max()).astype(np.uint8))
        inputs.append(grey.expand(3, side, side).contiguous())
        size = (side, side)
        shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
        others = {"scale_factor": (1.0, 1.0), "border": np.zeros(4, np.float32), "flip": False, "img_path": ""}
        samples.append(DetDataSample(metainfo={**shapes, **others, "img_id": index}))
    if singly:
        return [{"inputs": [one], "data_samples": [sample]} for one, sample in zip(inputs, samples, strict=True)]
    return [{"inputs": inputs, "data_samples": samples}]


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else ''}"


def _cache_file(model: nn.Module, made_from: Mapping[str, Any]) -> Path:
    # a part of the user's own may change while its config and weights stay
    modules = {type(one).__module__ for one in model.modules()}
    files = {getattr(sys.modules.get(name), "__file__", None) or name for name in modules}
    code = [sha256(file) if Path(file).is_file() else file for file in sorted({*files, __file__})]
    versions = [torch.__version__, mmcv.__version__, mmdet.__version__]
    key = hashlib.sha256(json.dumps([dict(made_from), code, versions], sort_keys=True).encode()).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("COVIDMM_CACHE") or Path(home) / "covidmm") / f"fast_forms_{key[:32]}.json"


def _known(file: Path) -> Forms | None:
    """What an earlier comparison found; None if there was none."""
    try:
        found = json.loads(file.read_text())
        return Forms(**found | {"pairs": [(str(conv), str(norm)) for conv, norm in found["pairs"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(file: Path, taken: Forms) -> None:
    """Keep what was found; a folder that cannot be written costs the next start the comparison."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, json.dumps(asdict(taken)).encode())
    except OSError as error:
        print_log(f"{file}: {error.strerror}: fast forms will be compared again at the next start", "current")
