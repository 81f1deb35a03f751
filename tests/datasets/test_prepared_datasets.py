"""The registered data sets, built through mmdet's registry from data prepared here."""

import json

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from covidmm.datasets.prepared_datasets import NIHDataset, RSNADataset, SIIMDataset, SIIMStudyDataset
from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.layouts.nih import FINDINGS
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "mmdet.LoadAnnotations", "with_bbox": True},
    {"type": "mmdet.Resize", "scale": (64, 64), "keep_ratio": True},
    {
        "type": "mmdet.PackDetInputs",
        "meta_keys": ("img_id", "study_id", "study_class", "original_width", "image_id"),
    },
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory, make):
    base = tmp_path_factory.mktemp("prepared")
    for layout, raw in (
        ("siim", make.siim(base / "raw_siim", 24)),
        ("rsna", make.rsna(base / "raw_rsna", 24)),
        ("nih", make.nih(base / "raw_nih")),
    ):
        prepare(layout, raw, base / layout, Options(workers=1, progress=False, negatives=True))
    return base


def build(kind, root, pipeline=PIPELINE, **options):
    init_default_scope("mmdet")
    return DATASETS.build({"type": kind, "data_root": str(root), "pipeline": pipeline, **options})


def edited(root, folder, change):
    """A copy of the training annotations of a prepared folder."""
    (folder / "annotations").mkdir()
    (folder / "annotations/train.json").write_text(change((root / "annotations/train.json").read_text()))
    return folder


@pytest.mark.parametrize("kind", [SIIMDataset, RSNADataset, SIIMStudyDataset, NIHDataset])
def test_it_is_registered(kind):
    assert DATASETS.get(kind.__name__) is kind


@pytest.mark.parametrize(("kind", "layout"), [("SIIMDataset", "siim"), ("RSNADataset", "rsna")])
def test_keeps_images_without_boxes_and_passes_on_what_the_study_is(roots, kind, layout):
    dataset = build(kind, roots / layout)
    assert dataset.metainfo["classes"] == ("opacity",)
    content = json.loads((roots / layout / "annotations/train.json").read_text())
    assert len(dataset) == len(content["images"])
    boxed = len({box["image_id"] for box in content["annotations"]})
    assert 0 < boxed < len(dataset)
    for index, image in enumerate(content["images"]):
        sample = dataset[index]["data_samples"]
        assert sample.study_id == image["study_id"]
        assert sample.study_class == image["study_class"]
        assert sample.image_id == image["image_id"]
        assert sample.original_width == image["original_width"]
        own = [box["bbox"] for box in content["annotations"] if box["image_id"] == image["id"]]
        assert len(sample.gt_instances) == len(own)
        if own:
            scale = 64 / 60
            x, y, width, height = own[0]
            expected = [x * 51 / 48, y * scale, (x + width) * 51 / 48, (y + height) * scale]
            assert sample.gt_instances.bboxes.tensor[0].tolist() == pytest.approx(expected, abs=0.1)


def test_says_how_many_images_are_kept(roots, caplog, monkeypatch):
    # mmengine's loggers hand nothing on to Python's root logger.
    monkeypatch.setattr(MMLogger.get_current_instance(), "handlers", [caplog.handler])
    dataset = build("SIIMDataset", roots / "siim", filter_cfg={"filter_empty_gt": True})
    kept = len(dataset)
    total = len(build("SIIMDataset", roots / "siim"))
    assert kept < total
    printed = caplog.text
    assert f"{kept} of {total} images kept, {kept} with boxes, 0 without" in printed
    assert f"{total} of {total} images kept, {kept} with boxes, {total - kept} without" in printed


def test_other_splits_are_read_by_name(roots):
    sizes = [
        len(build("SIIMDataset", roots / "siim", ann_file=f"annotations/{s}.json")) for s in ("train", "val", "test")
    ]
    assert sum(sizes) == 25


@pytest.mark.parametrize(
    ("kind", "root", "message"),
    [
        ("SIIMDataset", None, "data_root: is not set, name a prepared folder, for example by SIIM_ROOT"),
        ("SIIMDataset", "/nowhere", r"make it with `tools/prepare.py siim RAW /nowhere`, or let SIIM_ROOT point"),
        ("SIIMStudyDataset", "/nowhere", "siim RAW /nowhere`, or let SIIM_ROOT point"),
        ("RSNADataset", "/nowhere", "rsna RAW /nowhere`, or let RSNA_ROOT point"),
        ("NIHDataset", "/nowhere", "nih RAW /nowhere`, or let NIH_ROOT point"),
    ],
)
def test_a_missing_folder_says_what_to_run(kind, root, message):
    with pytest.raises(DataError, match=message):
        DATASETS.build({"type": kind, "data_root": root, "pipeline": []})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: "{}", "is no COCO file, has no annotations, categories, images"),
        (
            lambda text: text.replace('"opacity"', '"nodule"'),
            r"has the categories \['nodule'\], not 'opacity'",
        ),
        (
            lambda text: text.replace('"study_class"', '"class"'),
            "has no study_class; prepare the data set again",
        ),
    ],
)
def test_a_damaged_annotation_file_is_one_line(roots, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        build("SIIMDataset", edited(roots / "siim", tmp_path, change))


def test_a_study_class_is_a_vector_and_an_index(roots):
    dataset = build("SIIMStudyDataset", roots / "siim", [])
    images = json.loads((roots / "siim/annotations/train.json").read_text())["images"]
    assert len(dataset) == len(images)
    for index, image in enumerate(images):
        info = dataset.get_data_info(index)
        assert info["gt_label"].tolist() == [float(name == image["study_class"]) for name in STUDY_CLASSES]
        assert dataset.get_cat_ids(index) == [STUDY_CLASSES.index(image["study_class"])]
        assert info["study_id"] == image["study_id"]


def test_findings_are_vectors_in_the_frozen_order(roots):
    dataset = build("NIHDataset", roots / "nih", [{"type": "LoadImageFromFile"}])
    images = json.loads((roots / "nih/annotations/train.json").read_text())["images"]
    assert len(dataset) == len(images)
    for sample, image in zip(dataset, images, strict=True):
        assert sample["img"].shape == (60, 48, 3)
        assert sample["gt_label"].dtype == np.float32
        assert [FINDINGS[index] for index in np.flatnonzero(sample["gt_label"])] == image["labels"]
        assert sample["patient"] == image["patient"]


@pytest.mark.parametrize(
    ("kind", "layout", "change", "message"),
    [
        ("SIIMStudyDataset", "siim", lambda text: text.replace('"typical"', '"severe"'), "study class 'severe'"),
        ("SIIMStudyDataset", "rsna", str, r"\d+: has no study class"),
        ("NIHDataset", "nih", lambda text: text.replace('["Hernia"]', '["Herniation"]'), "finding 'Herniation'"),
        ("NIHDataset", "siim", str, r"\d+: has no labels"),
    ],
)
def test_a_label_that_is_unknown_or_missing_is_one_line(roots, tmp_path, kind, layout, change, message):
    with pytest.raises(DataError, match=rf"train\.json: image .*{message}"):
        build(kind, edited(roots / layout, tmp_path, change), [])
