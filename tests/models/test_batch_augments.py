import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from covidmm.models.batch_augments import BatchRandomResize


@pytest.fixture(autouse=True)
def iteration():
    MessageHub.get_instance("batch_augments")
    MessageHub.get_current_instance().update_info("iter", 0)


def batch():
    sample = DetDataSample(metainfo={"img_shape": (64, 64), "pad_shape": (64, 64)})
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 16, 32, 48]]))
    return torch.rand(2, 3, 64, 64), [sample]


def test_images_and_boxes_take_one_size_together():
    augment = BatchRandomResize((32, 96), size_divisor=32)
    seen = set()
    for seed in range(12):
        import random

        random.seed(seed)
        images, samples = augment(*batch())
        side = images.shape[-1]
        assert images.shape == (2, 3, side, side)
        assert samples[0].img_shape == (side, side)
        assert torch.allclose(samples[0].gt_instances.bboxes, torch.tensor([[8.0, 16, 32, 48]]) * side / 64)
        seen.add(side)
    assert seen == {32, 64, 96}


def test_the_size_depends_on_nothing_before():
    import random

    def drawn(before):
        augment = BatchRandomResize((32, 96), size_divisor=32)
        for _ in range(before):
            augment(*batch())
        random.seed(5)
        return [augment(*batch())[0].shape[-1] for _ in range(4)]

    assert drawn(0) == drawn(3)
