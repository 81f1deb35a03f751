"""What a trained model's config keeps of the files that its parts began from."""

import copy

from covidmm.models.pretrained import without_pretraining


def test_a_trained_model_needs_no_file_that_it_began_from():
    config = {
        "type": "LAD",
        "pretrained": "torchvision://resnet50",
        "teacher_ckpt": "https://somewhere/teacher.pth",
        "backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": "x.pth"}, "pretrained": None, "depth": 18},
        "neck": {"init_cfg": [{"type": "Xavier", "layer": "Conv2d"}]},
        "heads": [{"init_cfg": [{"type": "Normal"}, {"type": "Pretrained", "checkpoint": "y.pth"}]}],
        "timm": {"type": "TIMMBackbone", "pretrained": True},
    }
    before = copy.deepcopy(config)
    assert without_pretraining(config) == {
        "type": "LAD",
        "pretrained": None,
        "teacher_ckpt": None,
        "backbone": {"init_cfg": None, "pretrained": None, "depth": 18},
        "neck": {"init_cfg": [{"type": "Xavier", "layer": "Conv2d"}]},
        "heads": [{"init_cfg": None}],
        "timm": {"type": "TIMMBackbone", "pretrained": False},
    }
    assert config == before
