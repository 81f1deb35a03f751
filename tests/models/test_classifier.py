import numpy as np
import pytest
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import covidmm.registration  # noqa: F401


def build(multi_label=False, **options):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    backbone = {"type": "ResNet", "depth": 18, "out_indices": (3,), "style": "pytorch", "norm_eval": False}
    backbone |= options.pop("backbone", {})
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": multi_label}
    model = MODELS.build(
        {
            "type": "RadiographClassifier",
            "backbone": backbone,
            "num_classes": 4,
            "in_channels": 512,
            "hidden_channels": 32,
            "loss": loss,
            "multi_label": multi_label,
            **options,
        }
    )
    model.init_weights()
    return model


def samples(*targets):
    found = []
    for target in targets:
        found.append(BaseDataElement())
        found[-1].target = np.float32(target)
    return found


def test_logits_are_torchvisions_on_the_same_weights():
    model = build(hidden_channels=None)
    reference = torchvision.models.resnet18(num_classes=4)
    state = {f"backbone.{name}": value for name, value in reference.state_dict().items() if not name.startswith("fc.")}
    state |= {"head.0.weight": reference.fc.weight, "head.0.bias": reference.fc.bias}
    model.load_state_dict(state)
    model.eval()
    reference.eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(model(images), reference(images), atol=1e-5)


def test_losses_are_torchs():
    images = torch.randn(2, 3, 64, 64)
    single, multi = build(), build(multi_label=True)
    single.eval()
    multi.eval()
    found = single(images, samples([0, 1, 0, 0], [0, 0, 0, 1]), mode="loss")["loss"]
    assert torch.allclose(found, cross_entropy(single(images), torch.tensor([1, 3])))
    target = [[0, 1, 1, 0], [0, 0, 0, 0]]
    found = multi(images, samples(*target), mode="loss")["loss"]
    assert torch.allclose(found, binary_cross_entropy_with_logits(multi(images), torch.tensor(target).float()))


@pytest.mark.parametrize("multi_label", [True, False])
def test_predictions_are_probabilities(multi_label):
    model = build(multi_label)
    model.eval()
    found = model(torch.randn(2, 3, 64, 64), samples([0] * 4, [0] * 4), mode="predict")
    for one in found:
        expected = one.logits.sigmoid() if multi_label else one.logits.softmax(0)
        assert torch.allclose(one.scores, expected)


def test_the_head_starts_by_xavier_and_without_bias():
    hidden, last = build().head[0], build().head[3]
    bound = (6 / (512 + 32)) ** 0.5
    assert 0.95 * bound < hidden.weight.abs().max() <= bound
    assert not hidden.bias.any()
    assert not last.bias.any()


def test_a_frozen_backbone_neither_learns_nor_drifts():
    model = build(backbone={"frozen_stages": 4, "norm_eval": True})
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(4, 3, 64, 64), samples(*[[1, 0, 0, 0]] * 4), mode="loss")["loss"].backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
