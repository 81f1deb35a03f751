"""Names and shapes of published weights, and whole files. That the numbers agree too is test_parity's."""

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn.functional import conv2d

from covidmm.errors import CheckpointError, ConfigError
from covidmm.models.checkpoint_conversion import convert_yolov5
from covidmm.models.checkpoints import read_checkpoint
from covidmm.models.yolov5.published_weights import (
    SIZES,
    convert_state,
    focus_as_convolution,
    matching_state,
    without_head,
)
from tests.helpers.tool_runs import run_tool

pytestmark = pytest.mark.e2e  # builds YOLOv5 of every size
TOOL = Path(__file__).parents[3] / "tools/convert_checkpoint.py"
OURS_TO_PUBLISHED = {"main_conv": "cv1", "short_conv": "cv2", "final_conv": "cv3", "blocks": "m"}
POOLING = {"conv1": "cv1", "conv2": "cv2"}
#: Published layers of the neck, in the order of the forward pass, and of the head.
NECKS = {
    "P5": {
        "reduce_layers": [10, 14],
        "top_down_blocks": [13, 17],
        "downsamples": [18, 21],
        "bottom_up_blocks": [20, 23],
    },
    "P6": {
        "reduce_layers": [12, 16, 20],
        "top_down_blocks": [15, 19, 23],
        "downsamples": [24, 27, 30],
        "bottom_up_blocks": [26, 29, 32],
    },
}
HEADS = {"P5": 24, "P6": 33}
#: Published layers of the last stage: convolution and what follows it, in the order of ours.
LAST_STAGES = {("P5", "v6"): [7, 8, 9], ("P5", "v5"): [7, 8, 9], ("P6", "v6"): [9, 10, 11], ("P6", "v5"): [9, 10, 11]}
KINDS = list(LAST_STAGES)


def as_focus(weight):
    """The reverse of the conversion: (O, 3, 6, 6) to (O, 12, 3, 3)."""
    return torch.cat([weight[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], 1)


def publish(model, arch, release):
    """A model's weights under published names, by tables of its own, the reverse of the converter's."""
    last = LAST_STAGES[arch, release]
    stages = len(last) + len(NECKS[arch]["downsamples"]) - 1
    layers = {"backbone.stem": 0}
    for stage in range(1, stages):
        layers |= {f"backbone.stage{stage}.0": 2 * stage - 1, f"backbone.stage{stage}.1": 2 * stage}
    layers |= {f"backbone.stage{stages}.{part}": layer for part, layer in enumerate(last)}
    for part, numbers in NECKS[arch].items():
        layers |= {f"neck.{part}.{index}": number for index, number in enumerate(numbers)}
    head = f"model.{HEADS[arch]}"
    strides = torch.tensor([8, 16, 32, 64][: 3 if arch == "P5" else 4])
    anchors = torch.tensor(model.bbox_head.prior_generator.base_sizes) / strides[:, None, None]
    state = {f"{head}.anchors": anchors}
    if release == "v5":
        state[f"{head}.anchor_grid"] = (anchors * strides[:, None, None]).view(len(strides), 1, -1, 1, 1, 2)
    for name, value in model.state_dict().items():
        if name.startswith("bbox_head"):
            state[name.replace("bbox_head.convs_pred", f"{head}.m")] = value
            continue
        prefix = max((one for one in layers if name.startswith(one + ".")), key=len)
        first, *rest = name[len(prefix) + 1 :].split(".")
        rest = [OURS_TO_PUBLISHED.get(first, POOLING.get(first, first)), *(POOLING.get(part, part) for part in rest)]
        if layers[prefix] == 0 and release == "v5":
            rest.insert(0, "conv")
        state[f"model.{layers[prefix]}.{'.'.join(rest)}"] = value
    if release == "v5":
        state["model.0.conv.conv.weight"] = as_focus(state["model.0.conv.conv.weight"])
    return state


@pytest.fixture
def build(yolov5_config):
    """``build(arch, release)``: a nano model of four classes with weights that a half float holds."""

    def make(arch="P5", release="v6"):
        torch.manual_seed(0)
        config = yolov5_config("n", arch, 4)
        config.backbone.release = release
        model = MODELS.build(config)
        model.init_weights()
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
        return model.half().float().eval()

    return make


@pytest.fixture
def published(build):
    model = build()
    return model, publish(model, "P5", "v6")


def write_published(path, state, monkeypatch):
    """A checkpoint of whole models, of a package that is gone when this returns."""
    modules = {name: types.ModuleType(name) for name in ("models", "models.yolo", "models.common")}
    kinds = {}
    for module, name in (("models.yolo", "Model"), ("models.yolo", "Detect"), ("models.common", "Layer")):
        kinds[name] = type(name, (nn.Module,), {"__module__": module})
        setattr(modules[module], name, kinds[name])
    model = kinds["Model"]()
    for name, value in state.items():
        *parents, last = name.split(".")
        layer = model
        for depth, parent in enumerate(parents):
            if parent not in layer._modules:
                detect = depth == 1 and any(one.startswith(f"{'.'.join(parents[:2])}.anchors") for one in state)
                layer.add_module(parent, kinds["Detect" if detect else "Layer"]())
            layer = layer._modules[parent]
        if last in ("weight", "bias"):
            layer.register_parameter(last, nn.Parameter(value.clone()))
        else:
            layer.register_buffer(last, value.clone())
    model.names, model.yaml, model.stride = ["a", "b", "c", "d"], {"nc": 4}, torch.tensor([8.0, 16.0, 32.0])
    content = {"epoch": -1, "best_fitness": np.array([0.5]), "model": model.half(), "ema": None, "optimizer": None}
    content |= {"opt": argparse.Namespace(save_dir=Path("runs")), "date": "2021-10-12T00:00:00"}
    with monkeypatch.context() as context:
        for name, module in modules.items():
            context.setitem(sys.modules, name, module)
        torch.save(content, path)


@pytest.mark.parametrize(("arch", "release"), KINDS)
def test_a_published_file_fills_the_model(build, tmp_path, monkeypatch, arch, release):
    expected = build(arch, release)
    write_published(tmp_path / "in.pt", publish(expected, arch, release), monkeypatch)
    lines = convert_yolov5(tmp_path / "in.pt", tmp_path / "out.pth")
    assert lines[1] == f"settings: arch='{arch}', release='{release}', deepen_factor=0.33, widen_factor=0.25"
    assert "base_sizes=[[(1" in lines[2]
    assert lines[3].startswith("a matching model: 100.0% of ")
    assert not {"models", "models.yolo"} & set(sys.modules)
    model = build(arch, release)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_checkpoint(model, str(tmp_path / "out.pth"), strict=True)
    x = torch.rand(1, 3, 128, 192)
    with torch.no_grad():
        outputs = model(x, mode="tensor")[0]
        assert all(torch.equal(*pair) for pair in zip(outputs, expected(x, mode="tensor")[0], strict=True))
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "out.pth"), "prefix": "backbone.", "minimum_share": 1.0}
    kind = {"arch": arch, "release": release, "deepen_factor": 0.33, "widen_factor": 0.25, "init_cfg": init}
    backbone = MODELS.build({"type": "YOLOv5CSPDarknet", **kind})
    backbone.init_weights()
    assert all(
        torch.equal(value, backbone.state_dict()[name]) for name, value in expected.backbone.state_dict().items()
    )


@pytest.mark.parametrize(("arguments", "left_out"), [([], False), (["--num-classes", "1"], True)])
def test_the_tool_in_a_process_of_its_own(published, tmp_path, monkeypatch, arguments, left_out):
    write_published(tmp_path / "in.pt", published[1], monkeypatch)
    result = run_tool("convert_checkpoint.py", "yolov5", tmp_path / "in.pt", tmp_path / "store/out.pth", *arguments)
    assert result.code == 0, result.output
    assert "YOLOv5-n (6x6 stem, v6.0 or later), 4 classes" in result.output
    assert "a matching model: 100.0% of " in result.output
    assert ("head left out, for 1 instead of 4 classes" in result.output) is left_out
    written = read_checkpoint(tmp_path / "store/out.pth")
    assert any(name.startswith("bbox_head") for name in written["state_dict"]) is not left_out
    assert written["meta"]["converted_from"] == "in.pt"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["out.pth"]


def test_a_head_without_classes_is_not_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="--num-classes 0"):
        convert_yolov5(tmp_path / "in.pt", tmp_path / "out.pth", 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("arch", "release"), KINDS)
def test_the_size_is_read_off_the_shapes(size, arch, release):
    """Of every published size, without values."""
    head = types.SimpleNamespace(
        prior_generator=types.SimpleNamespace(base_sizes=[[(1.0, 1.0)] * 3] * (3 + (arch == "P6")))
    )
    ours = matching_state(size, arch, release, 80)
    state = publish(types.SimpleNamespace(bbox_head=head, state_dict=lambda: ours), arch, release)
    converted = convert_state(state)
    assert (converted.size, converted.arch, converted.release, converted.num_classes) == (size, arch, release, 80)
    assert converted.filled.share == 1


def test_every_tensor_finds_its_place(published):
    model, state = published
    converted = convert_state(state)
    assert (converted.size, converted.arch, converted.release, converted.num_classes) == ("n", "P5", "v6", 4)
    assert converted.state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, converted.state[name]) for name, value in model.state_dict().items())
    assert converted.anchors.round().tolist() == [
        [list(one) for one in level] for level in model.bbox_head.prior_generator.base_sizes
    ]
    assert str(converted) == "YOLOv5-n (6x6 stem, v6.0 or later), 4 classes"


def test_the_head_can_be_left_out(published):
    converted = convert_state(published[1])
    left = without_head(converted)
    assert len(converted.state) - len(left) == 6
    assert not [name for name in left if name.startswith("bbox_head")]


def test_focus_is_a_convolution():
    torch.manual_seed(0)
    weight, x = torch.randn(5, 12, 3, 3), torch.randn(2, 3, 20, 24)
    sliced = torch.cat([x[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], 1)
    expected = conv2d(sliced, weight, padding=1)
    assert torch.allclose(conv2d(x, focus_as_convolution(weight), stride=2, padding=2), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda state: {"fc.weight": torch.ones(1)}, "no detection head"),
        (lambda state: state | {"model.11.conv.weight": torch.ones(1)}, r"unknown layer model\.11\.conv\.weight"),
        (lambda state: state | {"model.24.m.0.weight": torch.ones(254, 64, 1, 1)}, "a head of 254 outputs"),
        (lambda state: state | {"model.24.m.0.weight": torch.ones(15, 64, 1, 1)}, "a head of 15 outputs"),
        (lambda state: state | {"model.24.m.1.weight": torch.ones(30, 128, 1, 1)}, r"1 of another shape \(bbox_head"),
        (lambda state: state | {"model.24.anchors": torch.ones(3, 5, 2)}, r"anchors of shape \(3, 5, 2\)"),
        (lambda state: {k: v for k, v in state.items() if not k.startswith("model.0.")}, "no convolution at layer 0"),
        (lambda state: {k: v for k, v in state.items() if not k.startswith("model.9.cv2")}, r"5 missing \(backbone"),
        (lambda state: {k: v for k, v in state.items() if ".bn." not in k}, "missing"),
        (lambda state: state | {"model.8.m.1.cv1.conv.weight": torch.ones(128, 128, 1, 1)}, r"1 left over \(backbone"),
        (
            lambda state: state | {"model.5.conv.weight": torch.ones(128, 64, 5, 5)},
            "published YOLOv5-n P5.*another shape",
        ),
        (lambda state: state | {"model.24.proto.cv1.conv.weight": torch.ones(1)}, "unknown layer"),
        (lambda state: state | {"model.2.cv4.conv.weight": torch.ones(1)}, "unknown layer"),
        (lambda state: {k: v for k, v in state.items() if "anchors" not in k}, r"no model\.24\.anchors"),
        (
            lambda state: state | {"model.0.conv.weight": torch.ones(24, 3, 6, 6)},
            "has a stem of 24",
        ),
    ],
)
def test_another_model_is_refused(published, change, cause):
    with pytest.raises(CheckpointError, match=cause):
        convert_state(change(published[1]))


def test_a_focus_stem_of_another_shape_is_refused():
    with pytest.raises(CheckpointError, match="Focus stem of shape"):
        focus_as_convolution(torch.ones(8, 3, 6, 6))
