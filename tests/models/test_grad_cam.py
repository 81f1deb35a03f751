import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.models.grad_cam import GradCam


@pytest.fixture
def model():
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(
        {
            "type": "RadiographClassifier",
            "backbone": {"type": "ResNet", "depth": 18, "num_stages": 4, "out_indices": (3,)},
            "num_classes": 4,
            "in_channels": 512,
            "hidden_channels": None,
            "loss": {"type": "CrossEntropyLoss"},
            "data_preprocessor": {"type": "ImgDataPreprocessor", "mean": [0.0] * 3, "std": [255.0] * 3},
        }
    ).eval()


def test_without_a_hidden_layer_it_is_the_class_activation_map(model):
    # Selvaraju et al. (2017), section 3.1: Grad-CAM of a linear head on average pooling is CAM
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    scores, heat = GradCam(model, temperature=2.0)(image)
    with torch.no_grad():
        inputs = model.data_preprocessor({"inputs": [image]})["inputs"]
        features = model.backbone(inputs)[-1][0]
        logits = model(inputs)[0]
    weights = model.head[0].weight[int(logits.argmax())]
    expected = torch.einsum("c,chw->hw", weights, features).clamp(min=0).detach().numpy() / features[0].numel()
    assert heat.shape == (2, 3)
    np.testing.assert_allclose(heat, expected, atol=1e-5)
    np.testing.assert_allclose(scores, (logits / 2).softmax(0).numpy(), atol=1e-6)
