import os
import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

import covidmm.models.pretrained  # noqa: F401 - registers
from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import coverage, read_checkpoint, require_coverage
from covidmm.models.state_dicts import state_of


class Net(BaseModule):
    def __init__(self, width=8, init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Linear(4, width)
        self.head = nn.Linear(width, 2)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_tensors_numpy_and_mmengine_logs_are_read(tmp_path):
    saved = {"state_dict": {"w": torch.ones(2)}, "score": np.float64(0.5), "log": HistoryBuffer([1.0], [1])}
    torch.save(saved, tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(read["state_dict"]["w"], torch.ones(2))
    assert read["score"] == 0.5
    assert read["log"].current() == 1.0


@pytest.mark.parametrize("writer", ["torch", "pickle"])
@pytest.mark.parametrize("reader", [read_checkpoint, lambda p: CheckpointLoader.load_checkpoint(str(p))])
def test_a_malicious_file_is_refused_and_does_nothing(tmp_path, writer, reader):
    path, victim = tmp_path / "evil.pth", tmp_path / "victim"
    content = {"state_dict": {}, "meta": Evil(victim)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"evil\.pth: refused.*(mkdir|foreign)"):
        reader(path)
    assert not victim.exists()


def test_getattr_reaches_no_further_than_log_statistics(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, "__init__")

    torch.save({"x": Reach()}, tmp_path / "reach.pth")
    with pytest.raises(CheckpointError, match="getattr"):
        read_checkpoint(tmp_path / "reach.pth")


@pytest.mark.parametrize(("content", "cause"), [(b"", "refused, an empty file"), (b"no checkpoint", "refused|damaged")])
def test_damaged_files_are_named(tmp_path, content, cause):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"bad\.pth: ({cause})"):
        read_checkpoint(tmp_path / "bad.pth")


def test_a_truncated_file_is_named(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.pth: damaged"):
        read_checkpoint(tmp_path / "cut.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth: no such checkpoint"):
        read_checkpoint(tmp_path / "none.pth")


def test_the_store_is_found_by_its_variable(tmp_path, monkeypatch):
    net = Net()
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    loaded = CheckpointLoader.load_checkpoint("covidmm://mine")
    assert torch.equal(loaded["state_dict"]["stem.weight"], net.stem.weight)


def test_a_name_that_the_store_lacks_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"covidmm://x101_nih: no .*x101_nih\.pth.*COVIDMM_CHECKPOINTS"):
        CheckpointLoader.load_checkpoint("covidmm://x101_nih")


def test_unknown_torchvision_weights_are_named():
    with pytest.raises(CheckpointError, match="torchvision has no weights named 'resnet999'"):
        CheckpointLoader.load_checkpoint("torchvision://resnet999")


def test_coverage_counts_what_fits():
    net, wide = Net(8), Net(9)
    full = coverage(net.state_dict(), net.state_dict())
    assert (full.share, full.missing, full.mismatched, full.unused) == (1.0, (), (), ())
    part = coverage(
        net.state_dict(), {"stem.bias": torch.zeros(8), "stem.weight": wide.stem.weight, "x": torch.ones(1)}
    )
    assert part.filled == 8
    assert part.total == 4 * 8 + 8 + 8 * 2 + 2
    assert part.mismatched == ("stem.weight",)
    assert part.missing == ("head.weight", "head.bias")
    assert part.unused == ("x",)


def test_state_of_finds_the_weights_and_strips_prefixes():
    weights = {"module.backbone.w": torch.ones(1), "module.head.w": torch.zeros(1)}
    assert set(state_of({"state_dict": weights})) == {"backbone.w", "head.w"}
    assert set(state_of({"model": weights}, "backbone")) == {"w"}
    with pytest.raises(CheckpointError, match=r"begins with 'neck\.'"):
        state_of(weights, "neck.")


def test_pretrained_init_loads_prints_and_refuses(tmp_path):
    source = Net()
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "good.pth")
    net = Net(init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "good.pth"), "prefix": "backbone."})
    net.init_weights()
    assert torch.equal(net.head.weight, source.head.weight)

    torch.save({"stem.bias": torch.zeros(8)}, tmp_path / "poor.pth")
    net = Net(init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "poor.pth")})
    with pytest.raises(CheckpointError, match=r"poor\.pth: does not fit the model: 13\.8%.*95% is required"):
        net.init_weights()


def test_the_weights_of_a_deeper_backbone_are_refused(tmp_path):
    """Those of its first blocks fill the whole model."""
    from mmdet.registry import MODELS

    deeper, own = (MODELS.build({"type": "mmdet.ResNet", "depth": depth}) for depth in (34, 18))
    torch.save(deeper.state_dict(), tmp_path / "r34.pth")
    own.init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "r34.pth")}
    with pytest.raises(CheckpointError, match=r"r34\.pth: is of a deeper model: 100\.0% of .*left over"):
        own.init_weights()


def test_torchvision_weights_fill_the_whole_resnext():
    """torchvision's own state dict, made here from random weights, needs no key conversion."""
    from mmdet.registry import MODELS
    from torchvision.models import resnext50_32x4d

    backbone = MODELS.build({"type": "mmdet.ResNeXt", "depth": 50, "groups": 32, "base_width": 4})
    found = coverage(backbone.state_dict(), resnext50_32x4d().state_dict())
    assert found.share == 1.0
    assert set(found.unused) == {"fc.weight", "fc.bias"}


def test_mmengine_load_checkpoint_goes_the_same_way(tmp_path):
    torch.save({"state_dict": {}, "meta": Evil(tmp_path / "victim")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(Net(), str(tmp_path / "evil.pth"))


def test_require_coverage_passes_a_full_one():
    require_coverage(coverage(Net().state_dict(), Net().state_dict()), "self")


def test_no_scheme_is_left_to_a_loader_that_unpickles():
    from mmengine.runner.checkpoint import CheckpointLoader

    assert {loader.__module__ for loader in CheckpointLoader._schemes.values()} == {"covidmm.models.checkpoints"}
    for name in ("openmmlab://vgg16", "open-mmlab://x", "mmcls://x", "s3://bucket/x.pth", "a:petrel://x", "pavi://x"):
        with pytest.raises(CheckpointError, match="refused, MMEngine would unpickle it"):
            CheckpointLoader.load_checkpoint(name)


def test_the_old_name_of_torchvision_s_weights_is_read_like_the_new_one():
    from mmengine.runner.checkpoint import CheckpointLoader

    with pytest.raises(CheckpointError, match="torchvision://nothing: torchvision has no weights named 'nothing'"):
        CheckpointLoader.load_checkpoint("modelzoo://nothing")


def test_a_key_that_the_old_format_does_not_explain_is_damage(tmp_path):
    """Found by ``make fuzz``: PyTorch asserts here."""
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pth").read_bytes()
    key = re.findall(rb"\d{8,}", data)[-1]
    place = data.rindex(key)
    (tmp_path / "a.pth").write_bytes(data[:place] + b"1" * len(key) + data[place + len(key) :])
    with pytest.raises(CheckpointError, match=r"a\.pth: damaged checkpoint \(storage key .* not found"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ([1], "holds no state dict"),
        (None, "holds no state dict"),
        ({"state_dict": 5}, "holds no state dict"),
        ({"state_dict": {}, "meta": [1]}, "its meta is not that of a training"),
        ({"state_dict": {}, "meta": {"val_metrics": 1}}, "its meta is not that of a training"),
        ({"state_dict": {}, "meta": {"val_metrics": {"detection/threshold": "x"}}}, "metrics are no numbers"),
    ],
)
def test_a_harmless_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content, cause):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{cause}"):
        read_checkpoint(tmp_path / "a.pth")
