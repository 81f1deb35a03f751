"""Numbers of the published implementation: with the same weights, the same outputs.

The reference is the package ``yolov5`` where it is installed (extra ``parity``), and otherwise what it said once:
``data/parity.npz``, written by ``python tests/models/yolov5/test_parity.py`` with version 7.0.14.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint

from covidmm.models.checkpoint_conversion import convert_yolov5
from covidmm.models.yolov5.published_weights import convert_state

FIXTURE = Path(__file__).parent / "data/parity.npz"
NUM_CLASSES = 3
TOLERANCE = 1e-4
needs_reference = pytest.mark.skipif(
    importlib.util.find_spec("yolov5") is None, reason="the reference package yolov5 (extra 'parity') is not installed"
)

# The published layout of v5.0, small: Focus stem, nine bottlenecks in stage 2, SPP before a C3 without identities.
V5_BACKBONE = [
    [-1, 1, "Focus", [64, 3]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 3, "C3", [128]],
    [-1, 1, "Conv", [256, 3, 2]],
    [-1, 9, "C3", [256]],
    [-1, 1, "Conv", [512, 3, 2]],
    [-1, 9, "C3", [512]],
    [-1, 1, "Conv", [1024, 3, 2]],
    [-1, 1, "SPP", [1024, [5, 9, 13]]],
    [-1, 3, "C3", [1024, False]],
]


def image(arch: str = "P5") -> torch.Tensor:
    shape = (1, 3, 96, 128) if arch == "P5" else (1, 3, 128, 192)
    return torch.from_numpy(np.random.RandomState(1).random_sample(shape).astype(np.float32))


def seeded_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights by name and shape, of a size that keeps signals alive; the same on every machine."""
    random, state = np.random.RandomState(0), {}
    for name, shape in shapes.items():
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            value = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            value = random.standard_normal(shape) * 0.1
        state[name] = torch.from_numpy(np.asarray(value, np.float32))
    return state


def shapes_of(model) -> dict[str, list[int]]:
    skipped = ("num_batches_tracked", "anchors", "anchor_grid", "stride")
    return {name: list(value.shape) for name, value in model.state_dict().items() if not name.endswith(skipped)}


def reference(config) -> tuple[object, dict[str, list[int]]]:
    """The published model of a size, or of a layout, with seeded weights."""
    import yolov5
    from yolov5.models.yolo import Model

    if isinstance(config, str):
        config = str(Path(yolov5.__file__).parent / f"models/{config}.yaml")
    model = Model(config, ch=3, nc=NUM_CLASSES).eval()
    shapes = shapes_of(model)
    model.load_state_dict(seeded_state(shapes), strict=False)
    return model, shapes


def say(model, arch: str = "P5") -> dict[str, np.ndarray]:
    """Raw outputs (B, 3 * outputs, H, W) per level and decoded (B, P, 4 + classes), in the order of ours."""
    with torch.no_grad():
        decoded, raw = model(image(arch))[:2]
    said = {}
    rows = []
    start = 0
    for level, output in enumerate(raw):
        _, anchors, height, width, outputs = output.shape
        said[f"raw{level}"] = output.permute(0, 1, 4, 2, 3).reshape(1, -1, height, width).numpy()
        count = anchors * height * width
        part = decoded[:, start : start + count].view(1, anchors, height, width, outputs)
        rows.append(part.permute(0, 2, 3, 1, 4).reshape(1, count, outputs))
        start += count
    rows = torch.cat(rows, 1)
    centres, sides = rows[..., :2], rows[..., 2:4]
    scores = rows[..., 4:5] * rows[..., 5:]
    said["decoded"] = torch.cat((centres - sides / 2, centres + sides / 2, scores), -1).numpy()
    return said


def assert_parity(model, shapes, said, arch="P5"):
    """Load the reference's weights into ours and compare."""
    head = {"P5": 24, "P6": 33}[arch]
    published = seeded_state(shapes) | {f"model.{head}.anchors": torch.ones({"P5": 3, "P6": 4}[arch], 3, 2)}
    state = convert_state(published).state
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        outputs = model(image(arch), mode="tensor")[0]
        boxes, scores = model.bbox_head.decode(outputs)
    for level, output in enumerate(outputs):
        np.testing.assert_allclose(output.numpy(), said[f"raw{level}"], atol=TOLERANCE)
    np.testing.assert_allclose(torch.cat((boxes, scores), -1).numpy(), said["decoded"], atol=TOLERANCE, rtol=1e-5)


def test_the_frozen_outputs(yolov5):
    with np.load(FIXTURE) as said:
        shapes = json.loads(str(said["shapes"]))
        assert np.abs(said["raw0"]).max() > 0.1  # or parity would be of nothing
        assert_parity(yolov5("n", num_classes=NUM_CLASSES), shapes, said)


@needs_reference
@pytest.mark.parametrize(
    ("size", "arch", "name"), [("n", "P5", "yolov5n"), ("s", "P5", "yolov5s"), ("n", "P6", "hub/yolov5n6")]
)
def test_the_reference_package(yolov5, size, arch, name):
    model, shapes = reference(name)
    assert_parity(yolov5(size, arch, NUM_CLASSES), shapes, say(model, arch), arch)


@needs_reference
def test_a_file_of_the_reference_package(yolov5, tmp_path):
    """Saved as it saves its models, half floats and all, and converted without importing it."""
    model, _ = reference("yolov5n")
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "optimizer": None}, tmp_path / "in.pt")
    modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("yolov5", "models")}
    lines = convert_yolov5(tmp_path / "in.pt", tmp_path / "out.pth")
    assert not modules.keys() & sys.modules.keys()
    sys.modules.update(modules)
    assert lines[3].startswith("a matching model: 100.0%")
    ours = yolov5("n", num_classes=NUM_CLASSES)
    load_checkpoint(ours, str(tmp_path / "out.pth"), strict=True)
    said = say(model.float())
    with torch.no_grad():
        outputs = ours(image(), mode="tensor")[0]
    for level, output in enumerate(outputs):
        np.testing.assert_allclose(output.numpy(), said[f"raw{level}"], atol=TOLERANCE)


@needs_reference
def test_a_layout_of_version_5(yolov5_config):
    import yaml
    import yolov5
    from mmdet.registry import MODELS

    layout = yaml.safe_load((Path(yolov5.__file__).parent / "models/yolov5n.yaml").read_text())
    model, shapes = reference(layout | {"backbone": V5_BACKBONE})
    config = yolov5_config("n", num_classes=NUM_CLASSES)
    config.backbone.release = "v5"
    ours = MODELS.build(config)
    ours.eval()
    assert_parity(ours, shapes, say(model))


if __name__ == "__main__":
    published, published_shapes = reference("yolov5n")
    FIXTURE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FIXTURE, shapes=json.dumps(published_shapes), **say(published))
