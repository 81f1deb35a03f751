import logging
import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations, Pad, RandomFlip, Resize
from mmdet.models.detectors import BaseDetector
from mmdet.models.layers import DropBlock
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader, Dataset

from covidmm.engine.hooks import EpochSeedHook, FiniteLossHook, PositiveSamplesHook, ValidationLossHook, seed_worker
from covidmm.errors import TrainingError


def draws(seed, epoch, rank=0):
    EpochSeedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch, iter=0, rank=rank))
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_an_epoch_draws_the_same_whatever_came_before():
    first = draws(0, 3)
    np.random.rand(100)
    assert draws(0, 3) == first


@pytest.mark.parametrize("other", [(1, 3, 0), (0, 4, 0), (0, 3, 1)])
def test_seeds_epochs_and_ranks_draw_differently(other):
    assert all(a != b for a, b in zip(draws(0, 3), draws(*other), strict=True))


class Noise(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.random.rand()


def test_workers_draw_anew_in_each_epoch_and_alike_after_a_resume():
    loader = DataLoader(Noise(), num_workers=2, worker_init_fn=seed_worker)
    epochs = []
    for epoch in (0, 1, 1):
        draws(0, epoch)
        epochs.append([float(x) for x in loader])
    assert epochs[0] != epochs[1]
    assert epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 4


class Detector(BaseModel):
    """Loses the mean of its inputs, plus noise that must not reach the training."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode="tensor"):
        np.random.rand(3)
        torch.rand(3)
        assert mode == "loss"
        return {"loss_cls": inputs.mean() * self.scale, "loss_bbox": [inputs.max() * self.scale], "acc": inputs.min()}


def test_the_validation_loss_is_the_mean_over_batches_and_disturbs_nothing():
    hub = MessageHub.get_instance("test_validation_loss")
    runner = SimpleNamespace(model=Detector(), optim_wrapper=SimpleNamespace(), message_hub=hub)
    hook = ValidationLossHook()
    hook.before_val_epoch(runner)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = float(np.random.rand()), float(torch.rand(1))
    np.random.seed(1)
    torch.manual_seed(1)
    for index, values in enumerate(([1.0, 3.0], [5.0, 7.0])):
        hook.after_val_iter(runner, index, {"inputs": torch.tensor(values)})
    metrics = {}
    hook.after_val_epoch(runner, metrics)
    assert metrics == pytest.approx({"val_loss_cls": 4.0, "val_loss_bbox": 5.0, "val_acc": 3.0, "val_loss": 9.0})
    assert hub.get_scalar("val/val_loss").current() == pytest.approx(9.0)
    assert (float(np.random.rand()), float(torch.rand(1))) == expected
    assert runner.model.scale.grad is None


def test_a_detector_that_has_no_loss_while_it_predicts_is_said_once_and_trains_on():
    class Training(Detector):
        def forward(self, inputs, mode="tensor"):
            raise AssertionError

    said = []
    logger = SimpleNamespace(warning=said.append)
    runner = SimpleNamespace(model=Training().eval(), optim_wrapper=SimpleNamespace(), logger=logger)
    hook = ValidationLossHook()
    for _ in range(2):
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, {"inputs": torch.ones(2)})
        metrics = {}
        hook.after_val_epoch(runner, metrics)
        assert metrics == {}
    assert said == ["no validation loss: Training has none while it predicts (AssertionError)"]


class TwoWays(BaseDetector):
    """Hands its loss something else in evaluation mode, as DINO, VFNet and FCOS do."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.norm, self.drop, self.block = torch.nn.BatchNorm1d(1), torch.nn.Dropout(), DropBlock(0.5, 1)

    def loss(self, inputs, data_samples):
        assert not any(part.training for part in (self.norm, self.drop, self.block))
        return {"loss": self.drop(self.norm(inputs)).mean() * (1 if self.training else 8)}

    def extract_feat(self, batch_inputs): ...
    def predict(self, batch_inputs, batch_data_samples): ...
    def _forward(self, batch_inputs, batch_data_samples): ...


def test_the_validation_loss_is_that_of_a_training_with_norms_and_dropout_as_they_validate():
    model = TwoWays().eval()
    runner = SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(), message_hub=MessageHub.get_instance("ways"))
    hook, metrics = ValidationLossHook(), {}
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, {"inputs": torch.full((4, 1), 3.0)})
    hook.after_val_epoch(runner, metrics)
    assert metrics["val_loss"] == pytest.approx(3.0, abs=1e-3)
    assert not model.training
    assert torch.equal(model.norm.running_mean, torch.zeros(1))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["LoadAnnotations", "Resize"], 8.0),
        (["Resize", "LoadAnnotations"], 2.0),
        (["Resize", "Pad", "LoadAnnotations"], 2.0),
        (["RandomFlip", "LoadAnnotations"], None),
    ],
)
def test_the_validation_loss_is_of_boxes_in_pixels_of_the_network(names, expected):
    class Largest(TwoWays):
        def loss(self, inputs, data_samples):
            return {
                "loss": data_samples[0].gt_instances.bboxes.max() + 0 * data_samples[0].ignored_instances.bboxes.sum()
            }

    made = {
        "LoadAnnotations": LoadAnnotations,
        "Resize": partial(Resize, (2, 2)),
        "RandomFlip": partial(RandomFlip, prob=0.5),
    }
    steps = [None, *(made.get(name, partial(Pad, size=(4, 4)))() for name in names)]
    loader = SimpleNamespace(dataset=SimpleNamespace(pipeline=SimpleNamespace(transforms=steps)))
    one = DetDataSample(metainfo={"scale_factor": (0.5, 0.25)})
    one.gt_instances = one.ignored_instances = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 4.0, 8.0]]))
    said = []
    runner = SimpleNamespace(
        model=Largest().eval(),
        optim_wrapper=SimpleNamespace(),
        val_dataloader=loader,
        logger=SimpleNamespace(warning=said.append),
        message_hub=MessageHub.get_instance("pixels"),
    )
    hook, metrics = ValidationLossHook(), {}
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, {"inputs": torch.ones(4, 1), "data_samples": [one]})
    hook.after_val_epoch(runner, metrics)
    assert metrics.get("val_loss") == expected
    assert said == (
        [] if expected else ["no validation loss: RandomFlip comes before LoadAnnotations, and moves pixels"]
    )
    assert one.gt_instances.bboxes.max() == 8


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_and_names_the_batch(wrong):
    runner = SimpleNamespace(epoch=2)
    batch = {"data_samples": [SimpleNamespace(img_path="a.png"), SimpleNamespace(img_path="b.png")]}
    hook = FiniteLossHook()
    hook.after_train_iter(runner, 6, batch, {"loss": torch.tensor(1.5), "acc": 0.5})
    with pytest.raises(TrainingError, match=r"epoch 3, iteration 7: loss_cls, loss is .* for the batch a\.png, b\.png"):
        hook.after_train_iter(runner, 6, batch, {"loss_cls": torch.tensor(wrong), "loss": wrong, "acc": 0.5})


def sample(boxes=None, labels=None):
    made = DetDataSample()
    if boxes is not None:
        made.gt_instances = InstanceData(bboxes=torch.zeros(boxes, 4))
    else:
        made.target = np.float32(labels)
    return made


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([[sample(boxes=0)] * 2, [sample(boxes=0)]], "in epoch 5 (3 images)"),
        ([[sample(boxes=0)], [sample(boxes=1)]], None),
        ([[sample(labels=[0.0, 0.0])]], "in epoch 5 (1 images)"),
        ([[sample(labels=[0.0, 1.0])]], None),
        ([], None),
    ],
)
def test_an_epoch_without_a_positive_sample_is_said(batches, said, caplog):
    runner = SimpleNamespace(epoch=4, logger=logging.getLogger("positives"))
    hook = PositiveSamplesHook()
    for _ in range(2):  # each epoch counts anew
        hook.before_train_epoch(runner)
        for index, samples in enumerate(batches):
            hook.after_train_iter(runner, index, {"data_samples": samples})
        hook.after_train_epoch(runner)
    assert len(caplog.messages) == (2 if said else 0)
    assert all(said in message for message in caplog.messages)
