"""Names and shapes of published weights. That the numbers agree too is test_parity's."""

import pytest
import torch
from torch.nn.functional import conv2d

from covidmm.errors import CheckpointError
from covidmm.models.yolov5.conversion import convert_state, focus_as_convolution, without_head

OURS_TO_PUBLISHED = {"main_conv": "cv1", "short_conv": "cv2", "final_conv": "cv3", "blocks": "m"}


@pytest.fixture
def published(yolov5):
    """A P5 model's weights under published names, by a table of its own, the reverse of the converter's."""
    layers = {"backbone.stem": 0}
    layers |= {f"backbone.stage{s}.0": 2 * s - 1 for s in range(1, 5)}
    layers |= {f"backbone.stage{s}.1": 2 * s for s in range(1, 5)}
    layers["backbone.stage4.2"] = 9
    layers |= {"neck.reduce_layers.0": 10, "neck.top_down_blocks.0": 13, "neck.reduce_layers.1": 14}
    layers |= {"neck.top_down_blocks.1": 17, "neck.downsamples.0": 18, "neck.bottom_up_blocks.0": 20}
    layers |= {"neck.downsamples.1": 21, "neck.bottom_up_blocks.1": 23}
    model = yolov5("n", num_classes=4)
    state = {
        "model.24.anchors": torch.tensor(model.bbox_head.prior_generator.base_sizes)
        / torch.tensor([8, 16, 32])[:, None, None]
    }
    for name, value in model.state_dict().items():
        if name.startswith("bbox_head"):
            state[name.replace("bbox_head.convs_pred", "model.24.m")] = value
            continue
        prefix = max((one for one in layers if name.startswith(one + ".")), key=len)
        rest = name[len(prefix) + 1 :].split(".")
        rest[0] = OURS_TO_PUBLISHED.get(rest[0], rest[0])
        rest = [part.replace("conv1", "cv1").replace("conv2", "cv2") for part in rest]
        state[f"model.{layers[prefix]}.{'.'.join(rest)}"] = value
    return model, state


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
