"""What is traced, against the models that it was taken from."""

import pytest
import torch

from covidmm.engine.config import load_config
from covidmm.errors import ConfigError
from covidmm.inference.graphs import graph_of, input_size
from covidmm.models.classifier import RadiographClassifier


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("phantom/frcnn_r18_phantom.py", (192, 192)),
        ("phantom/yolov5n_phantom.py", (256, 256)),
        ("small/retinanet_r18_siim.py", (256, 256)),
        ("frcnn_x101_siim.py", (1024, 1024)),
        ("yolov5l_siim.py", (512, 512)),
        ("phantom/study_r18_phantom.py", (112, 112)),
    ],
)
def test_the_size_is_the_test_pipelines(config, size, request):
    assert input_size(load_config(request.config.rootpath / "configs" / config)) == size


def test_a_size_is_rounded_up_to_the_stride_and_must_be_there(request):
    cfg = load_config(request.config.rootpath / "configs/phantom/frcnn_r18_phantom.py")
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "Resize":
            step.scale = (200, 100)
    assert input_size(cfg) == (128, 224)
    cfg.test_dataloader.dataset.pipeline = [{"type": "LoadImageFromFile"}]
    with pytest.raises(ConfigError, match="fixes no size"):
        input_size(cfg)


def test_proposals_are_those_of_mmdetection(random_ensemble):
    from mmdet.structures import DetDataSample

    from covidmm.engine.checkpointing import load_trained

    member = random_ensemble.members["frcnn"]
    model, _ = load_trained(load_config(member.config), member.checkpoint)
    kind, graph = graph_of(model, (192, 192))
    assert kind == "two-stage"
    images = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    sample = DetDataSample(metainfo={"img_shape": (192, 192), "scale_factor": (1.0, 1.0)})
    with torch.inference_mode():
        (wanted,) = model.rpn_head.predict(model.extract_feat(images), [sample], rescale=False)
        rois, logits, deltas = graph(images)
    assert len(rois) == len(wanted.bboxes) > 50
    assert logits.shape == (len(rois), 2)
    assert deltas.shape == (len(rois), 4)
    # the graph sorts by pyramid level
    distance = torch.cdist(rois[:, 1:], wanted.bboxes, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(0).values.max() < 1e-2
    assert distance.min(1).values.max() < 1e-2


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="a Linear cannot be exported"):
        graph_of(torch.nn.Linear(1, 1), (32, 32))


def test_a_classifier_is_its_logits():
    backbone = {"type": "ResNet", "depth": 18, "out_indices": (3,)}
    model = RadiographClassifier(backbone, 4, 512, {"type": "mmdet.CrossEntropyLoss"}, hidden_channels=None).eval()
    kind, graph = graph_of(model, (32, 32))
    assert kind == "classifier"
    assert graph(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_an_image_that_keeps_its_shape_gives_the_same_outputs(random_ensemble, tmp_path, request):
    """RetinaNet's pipeline neither stretches nor pads: its graph takes any height and width, and any batch."""
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    from mmdet.registry import MODELS

    from covidmm.inference.backends import open_session
    from covidmm.inference.export import to_onnx

    config = request.config.rootpath / "configs/small/retinanet_r18_siim.py"
    model = MODELS.build(load_config(config).model).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "retina.pth")
    content, metadata = to_onnx(str(config), str(tmp_path / "retina.pth"))
    assert not metadata["fixed_size"]
    session = open_session("onnxruntime", content)
    for shape in ((1, 3, 256, 256), (2, 3, 224, 160)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            wanted = graph_of(model, (256, 256))[1](images)
        for one, other in zip(wanted, session(images.numpy()), strict=True):
            torch.testing.assert_close(torch.from_numpy(other), one, atol=1e-4, rtol=1e-3)
