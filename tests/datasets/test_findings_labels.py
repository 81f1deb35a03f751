"""Labels of whole images from any prepared folder, and the configs of classifiers that follow them."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.registry import init_default_scope
from PIL import Image

import covidmm.registration
from covidmm.datasets.image_labels import image_labels, label_names
from covidmm.datasets.prepared_folder import read_split
from covidmm.engine.config import load_config
from covidmm.engine.data_classes import class_parameters
from covidmm.errors import ConfigError, DataError
from covidmm.findings import Detections, Study
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.studies.network import NetworkClassifier
from tests.conftest import write_csv, write_png

CONFIG = "configs/small/labels_r18_findings.py"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder prepared from a table of labels: none, one or two of three."""
    raw = tmp_path_factory.mktemp("table")
    rows = [["image", "class"]]
    for number in range(24):
        write_png(raw / f"{number}.png", number)
        own = [name for bit, name in enumerate(("Mass", "Nodule")) if number >> bit & 1] or [""]
        own += ["Hernia"] if number == 5 else []
        rows += [[f"{number}.png", name] for name in own]
    write_csv(raw / "labels.csv", rows)
    prepare("table", raw, raw.parent / "prepared_table", Options(workers=1, progress=False))
    return raw.parent / "prepared_table"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A folder prepared from a COCO file: boxes of two classes, one of them a crowd."""
    raw = tmp_path_factory.mktemp("boxes")
    images, annotations = [], []
    for number in range(24):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (60, 50), dtype=np.uint8)).save(
            raw / f"{number}.png"
        )
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": 50, "height": 60})
        for kind in range(2):
            if number >> kind & 1:
                box = {"bbox": [5, 6, 20, 30], "area": 600, "iscrowd": int(kind == 1 and number % 4 == 3)}
                annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": kind + 1} | box)
    categories = [{"id": 1, "name": "effusion"}, {"id": 2, "name": "opacity"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (raw / "all.json").write_text(json.dumps(content))
    prepare("coco", raw, raw.parent / "prepared_boxes", Options(workers=1, progress=False))
    return raw.parent / "prepared_boxes"


def dataset(prepared, split="train", **arguments):
    config = {"type": "FindingsLabelDataset", "data_root": str(prepared), "ann_file": f"annotations/{split}.json"}
    return DATASETS.build({**config, "pipeline": [], **arguments})


def rows(found):
    """Image id -> names of its labels."""
    classes = found.metainfo["classes"]
    infos = [found.get_data_info(index) for index in range(len(found))]
    return {one["image_id"]: {classes[index] for index in np.flatnonzero(one["gt_label"])} for one in infos}


def test_labels_of_a_table_are_those_of_its_rows(table):
    for split in ("train", "val", "test"):
        found = dataset(table, split)
        assert set(found.metainfo["classes"]) == {"Hernia", "Mass", "Nodule"}
        for name, own in rows(found).items():
            number = int(name)
            wanted = {one for bit, one in enumerate(("Mass", "Nodule")) if number >> bit & 1}
            assert own == wanted | ({"Hernia"} if number == 5 else set())


def test_labels_of_boxes_are_their_classes_crowds_too(boxes):
    found = dataset(boxes)
    assert found.metainfo["classes"] == ("effusion", "opacity")
    for name, own in rows(found).items():
        assert own == {one for bit, one in enumerate(("effusion", "opacity")) if int(name) >> bit & 1}
        assert found.get_cat_ids(0) == np.flatnonzero(found.get_data_info(0)["gt_label"]).tolist()


def test_an_image_of_nothing_has_the_negative_class_alone(boxes):
    found = dataset(boxes, negative="No finding")
    assert found.metainfo["classes"] == ("effusion", "opacity", "No finding")
    assert all(own == {"No finding"} for name, own in rows(found).items() if int(name) % 4 == 0)
    assert not any("No finding" in own for name, own in rows(found).items() if int(name) % 4)


def test_classes_are_joined_left_out_and_never_guessed(boxes):
    joined = rows(dataset(boxes, class_map={"effusion": "any", "opacity": "any"}))
    assert all(own == ({"any"} if int(name) % 4 else set()) for name, own in joined.items())
    left = rows(dataset(boxes, class_map={"effusion": None}))
    assert set().union(*left.values()) == {"opacity"}
    with pytest.raises(DataError, match=r"class_map names 'efusion', .* did you mean 'effusion'"):
        dataset(boxes, class_map={"efusion": "x"})
    with pytest.raises(DataError, match="no category of the class 'mass'"):
        dataset(boxes, metainfo={"classes": ("mass",)})
    assert dataset(boxes, metainfo={"classes": ("opacity", "mass")}, absent=("mass",)).metainfo["classes"][1] == "mass"
    with pytest.raises(DataError, match="negative is 'none', the classes are opacity"):
        dataset(boxes, metainfo={"classes": ("opacity",)}, negative="none")


def test_where_one_class_must_hold_an_image_with_none_or_two_is_named(boxes):
    with pytest.raises(DataError, match=r"image \d+ \(\d+\): has no label, and no class is 'negative'; expected one"):
        dataset(boxes, multi_label=False)
    with pytest.raises(DataError, match=r"has 2 labels \(effusion, opacity\); expected one"):
        dataset(boxes, multi_label=False, negative="nothing")
    any_box = {"effusion": "finding", "opacity": "finding"}
    found = dataset(boxes, multi_label=False, negative="nothing", class_map=any_box)
    assert {len(own) for own in rows(found).values()} == {1}


def test_a_label_that_only_another_split_has_is_a_class_of_the_folder(table, tmp_path):
    folder = shutil.copytree(table, tmp_path / "prepared")
    path = folder / "annotations/val.json"
    content = json.loads(path.read_text())
    content["images"][0]["labels"] = ["Zoster"]
    path.write_text(json.dumps(content))
    for split in ("train", "test"):
        assert label_names(read_split(folder / f"annotations/{split}.json"))[-1] == "Zoster"
        assert dataset(folder, split, class_map={"Zoster": None}).metainfo["classes"] == ("Hernia", "Mass", "Nodule")


def test_a_folder_of_studies_has_their_class_and_the_boxes(random_ensemble):
    split = read_split(random_ensemble.prepared / "annotations/train.json")
    assert label_names(split) == ("opacity", "atypical", "indeterminate", "negative", "typical")
    for image in split.images:
        assert set(image_labels(image)) == {image.study_class, *(["opacity"] if len(image.boxes) else [])}
    single = {"multi_label": False, "metainfo": {"classes": ("negative", "typical", "indeterminate", "atypical")}}
    assert rows(dataset(random_ensemble.prepared, **single)) == {
        image.image_id: {image.study_class} for image in split.images
    }


def config_of(tmp_path, *lines):
    path = tmp_path / "mine.py"
    base = f'_base_ = "{(covidmm.registration.__file__).rpartition("/covidmm/")[0]}/{CONFIG}"'
    path.write_text("\n".join([base, *lines]) + "\n")
    return path


def test_a_config_follows_the_folder(boxes, tmp_path, monkeypatch):
    monkeypatch.setenv("FINDINGS_ROOT", str(boxes))
    cfg = load_config(CONFIG)
    assert cfg.model.num_classes == 2
    datasets = [cfg[f"{split}_dataloader"].dataset for split in ("train", "val", "test")]
    assert all(tuple(one.metainfo.classes) == ("effusion", "opacity") for one in datasets)
    lines = (
        'negative, classes = "nothing", ("finding", "nothing")',
        'class_map = {"effusion": "finding", "opacity": "finding"}',
        "model = dict(multi_label=False, loss=dict(use_sigmoid=False))",
    )
    cfg = load_config(config_of(tmp_path, *lines))
    assert cfg.model.num_classes == 2
    assert cfg.val_evaluator.multi_label is cfg.test_evaluator.multi_label is False
    built = DATASETS.build(cfg.train_dataloader.dataset)
    assert built.metainfo["classes"] == ("finding", "nothing")
    assert {name: own for name, own in rows(built).items() if int(name) % 4 == 0} == {
        name: {"nothing"} for name in rows(built) if int(name) % 4 == 0
    }


def test_a_loss_for_another_kind_of_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"multi_label is False, expected model\.loss\.use_sigmoid=False"):
        load_config(config_of(tmp_path, "model = dict(multi_label=False)"))


def test_a_line_that_nothing_reads_is_refused(tmp_path):
    for base in ("configs/small/frcnn_r18_findings.py", "configs/small/frcnn_r18_siim.py"):
        root = covidmm.registration.__file__.rpartition("/covidmm/")[0]
        (tmp_path / "a.py").write_text(f'_base_ = "{root}/{base}"\nnegative = "nothing"\n')
        with pytest.raises(ConfigError, match=r"negative: nothing reads it, .* of the type FindingsLabelDataset"):
            load_config(tmp_path / "a.py")


def test_the_last_layer_alone_hangs_on_the_number_of_classes(boxes, monkeypatch):
    monkeypatch.setenv("FINDINGS_ROOT", str(boxes))
    assert class_parameters(load_config(CONFIG).model) == {"head.3.weight", "head.3.bias"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier of three labels with random weights, which says what it was trained on."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = load_config(CONFIG)
    cfg.model.num_classes = 3
    model = MODELS.build(cfg.model)
    model.init_weights()
    path = tmp_path_factory.mktemp("labels") / "a.pth"
    meta = {"dataset_meta": {"classes": ("Mass", "Nodule", "Hernia")}, "val_metrics": {"findings/auroc": 0.5}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return path


class Film:
    def __init__(self, seed):
        self.pixels = np.random.default_rng(seed).integers(0, 255, (200, 150), dtype=np.uint8)


def test_a_trained_classifier_has_the_labels_of_its_checkpoint(checkpoint, boxes, monkeypatch):
    """Whatever the folder at hand has."""
    monkeypatch.setenv("FINDINGS_ROOT", str(boxes))
    classifier = NetworkClassifier(CONFIG, str(checkpoint))
    assert (classifier.classes, classifier.multi_label) == (("Mass", "Nodule", "Hernia"), True)
    films = [Film(0), Film(1)]
    each = [classifier.classify(Study("s", [film], [Detections.none()])) for film in films]
    both = classifier.classify(Study("s", films, [Detections.none()] * 2))
    assert both == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    inputs = torch.stack([classifier.inputs_of(films[0].pixels)])
    logits = classifier.model(classifier.model.data_preprocessor({"inputs": list(inputs)})["inputs"])
    assert each[0] == pytest.approx(1 / (1 + np.exp(-logits.detach().numpy()[0])), abs=1e-5)
    most = NetworkClassifier(CONFIG, str(checkpoint), aggregate="max")
    assert most.classify(Study("s", films, [Detections.none()] * 2)) == pytest.approx(np.max(each, axis=0), abs=1e-5)
    with pytest.warns(UserWarning, match="no readable radiograph, no label holds"):
        assert classifier.classify(Study("s", [], [])).tolist() == [0, 0, 0]


def test_a_checkpoint_that_does_not_say_its_classes_needs_the_folder(checkpoint, tmp_path, monkeypatch):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "bare.pth")
    monkeypatch.setenv("FINDINGS_ROOT", str(tmp_path / "none"))
    monkeypatch.chdir(covidmm.registration.__file__.rpartition("/covidmm/")[0])
    three = config_of(tmp_path, "model = dict(num_classes=3)")
    with pytest.raises(ConfigError, match=r"mine\.py: neither it nor .*bare\.pth says which classes it has"):
        NetworkClassifier(str(three), str(tmp_path / "bare.pth"))
