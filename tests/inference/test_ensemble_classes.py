"""Members of other and of several classes in one ensemble."""

from dataclasses import replace
from pathlib import Path

import ensemble_boxes
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.datasets.image_folders import read_image_folder
from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member, load_ensemble
from covidmm.ensembles.single import BestSingle
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError
from covidmm.findings import Detections
from covidmm.inference.core import fuse
from covidmm.inference.detector import Detector
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.outputs.predictions import ImageEntry

SIZE = 100, 120
IMAGE = ImageEntry("one", "study", *SIZE)


@pytest.fixture
def members(tmp_path, monkeypatch, request):
    """A small Faster R-CNN of given classes as a member; the folder that it follows is not there."""
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("FINDINGS_ROOT", str(tmp_path / "nowhere"))

    def member(name, classes, **more):
        init_default_scope("mmdet")
        cfg = load_config("configs/small/frcnn_r18_findings.py")
        cfg.model.roi_head.bbox_head.num_classes = len(classes)
        torch.manual_seed(0)
        state = MODELS.build(cfg.model).state_dict()
        path = tmp_path / f"{name}.pth"
        torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": list(classes)}}}, path)
        return Member("configs/small/frcnn_r18_findings.py", str(path), **more)

    return member


def config_of(classes=None, **members):
    return EnsembleConfig(Path("x.py"), members, {"type": "wbf"}, None, {}, None, 128, 2, classes=classes)


def test_the_classes_are_those_of_the_members(members):
    config = config_of(
        one=members("one", ("opacity", "nodule")),
        two=members("two", ("Consolidation", "effusion", "mass"), class_map={"Consolidation": "opacity", "mass": None}),
    )
    found = EnsembleClasses.of(config)
    assert found.names == ("opacity", "nodule", "effusion")
    assert found.indices == {"one": (0, 1), "two": (0, 2, None)}
    assert [found.voters(label, ("one", "two")) for label in range(3)] == [("one", "two"), ("one",), ("two",)]
    named = EnsembleClasses.of(replace(config, classes=("nodule", "effusion", "opacity")))
    assert named.indices == {"one": (2, 0), "two": (2, 1, None)}


def test_labels_are_those_of_the_ensemble(members, random_ensemble):
    member = members("one", ("opacity", "nodule", "effusion"))
    images = [case.read() for case in read_image_folder(random_ensemble.prepared).images[:2]]
    own = Detector(member, "one", "cpu")(images)
    mapped = Detector(member, "one", "cpu", indices=(3, None, 0))(images)
    assert len(own[0]) > 10
    for before, after in zip(own, mapped, strict=True):
        kept = before.labels != 1
        assert after.boxes == pytest.approx(before.boxes[kept])
        assert after.labels.tolist() == [{0: 3, 2: 0}[label] for label in before.labels[kept].tolist()]


@pytest.mark.parametrize(
    ("classes", "class_map", "message"),
    [
        (("opacity",), None, r"member 'one': finds 2 classes \(opacity, nodule\), the ensemble fuses 'opacity' alone"),
        (("mass",), {"nodule": None, "opacity": None}, "the ensemble fuses 'mass' alone"),
        (None, {"noduul": "x"}, r"class_map names 'noduul', it finds opacity, nodule: did you mean 'nodule'\?"),
        (("opacity", "mass"), None, r"fuses 'opacity', 'mass'; class_map = \{'nodule': None\} leaves one out"),
    ],
)
def test_classes_that_do_not_fit_are_named(members, classes, class_map, message):
    with pytest.raises(ConfigError, match=message):
        EnsembleClasses.of(config_of(classes, one=members("one", ("opacity", "nodule"), class_map=class_map)))


def test_a_member_of_coco_is_refused_among_opacities(random_ensemble, tmp_path):
    base = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
    (tmp_path / "coco.py").write_text(f'_base_ = "{base}"\nmodel = dict(backbone=dict(init_cfg=None))\n')
    config = load_ensemble(random_ensemble.config)
    assert config.classes == ("opacity",)
    other = Member(str(tmp_path / "coco.py"), config.members["yolo"].checkpoint)
    with pytest.raises(ConfigError, match=r"member 'coco': finds 80 classes \(person, bicycle, car, ...\), the ensemb"):
        EnsembleClasses.of(replace(config, members={**config.members, "coco": other}))


def test_a_config_that_says_no_classes_without_its_folder_is_refused(members, tmp_path):
    member = members("one", ("opacity",))
    torch.save({"state_dict": torch.load(member.checkpoint, weights_only=True)["state_dict"]}, member.checkpoint)
    with pytest.raises(ConfigError, match="neither its checkpoint nor its config says which classes it finds"):
        Detector(member, "one", "cpu")


def random_boxes(random, count, labels):
    corners = random.uniform(0, 70, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 30, (count, 2))], 1)
    return Detections(boxes, random.uniform(0.05, 0.95, count), random.choice(labels, count))


def test_each_class_is_fused_by_the_members_that_find_it():
    random = np.random.default_rng(0)
    found = {"one": random_boxes(random, 30, [0, 1]), "two": random_boxes(random, 30, [0, 2])}
    members = {"one": Member("", "", weight=2.0), "two": Member("", "", weight=1.0)}
    classes = EnsembleClasses(("a", "b", "c"), {"one": (0, 1), "two": (0, 2)})
    fused = fuse(WeightedBoxesFusion(0.5), members, IMAGE, found, classes)
    assert (np.diff(fused.scores) <= 0).all()
    scale = np.array([SIZE[1], SIZE[0]] * 2)
    for label, voters in enumerate((("one", "two"), ("one",), ("two",))):
        own = [found[name] for name in voters]
        kept = [one.labels == label for one in own]
        boxes, scores, _ = ensemble_boxes.weighted_boxes_fusion(
            [(one.boxes[mask] / scale).clip(0, 1) for one, mask in zip(own, kept, strict=True)],
            [one.scores[mask] for one, mask in zip(own, kept, strict=True)],
            [np.zeros(mask.sum()) for mask in kept],
            weights=[members[name].weight for name in voters] if len(voters) > 1 else None,
            iou_thr=0.5,
        )
        mine = fused.labels == label
        assert mine.sum() == len(scores)
        if len(voters) == 1:  # with unequal weights the published scores may exceed 1
            assert fused.scores[mine] == pytest.approx(scores, abs=1e-6)
            assert fused.boxes[mine] == pytest.approx(boxes * scale, abs=1e-3)


def test_one_class_of_all_members_is_fused_as_before():
    random = np.random.default_rng(1)
    found = {name: random_boxes(random, 20, [0]) for name in ("one", "two")}
    members = {name: Member("", "") for name in found}
    strategy = WeightedBoxesFusion(0.5)
    fused = fuse(strategy, members, IMAGE, found, EnsembleClasses())
    direct = strategy.fuse(list(found.values()), [1.0, 1.0], SIZE)
    assert np.array_equal(fused.boxes, direct.boxes)
    assert np.array_equal(fused.scores, direct.scores)


def test_a_strategy_that_knows_its_members_needs_them_all():
    classes = EnsembleClasses(("a", "b"), {"one": (0, 1), "two": (0,)})
    with pytest.raises(ConfigError, match="BestSingle needs members of the same classes, but 'b' is found by one"):
        classes.require_fits(BestSingle(1))
    classes.require_fits(WeightedBoxesFusion())
    EnsembleClasses(("a", "b"), {"one": (0, 1), "two": (1, 0)}).require_fits(BestSingle(1))
