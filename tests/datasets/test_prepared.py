"""SIIMDataset and RSNADataset, built through mmdet's registry from data prepared here."""

import json

import pytest
from mmengine.logging import MMLogger

from covidmm.errors import DataError
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
    for layout, write in (("siim", make.siim), ("rsna", make.rsna)):
        options = Options(workers=1, progress=False, negatives=True)
        prepare(layout, write(base / f"raw_{layout}", 24), base / layout, options)
    return base


def build(kind, root, **options):
    from mmdet.registry import DATASETS

    import covidmm.registration  # noqa: F401

    return DATASETS.build({"type": kind, "data_root": str(root), "pipeline": PIPELINE, **options})


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
    ("root", "message"),
    [
        (None, "data_root: is not set, name a prepared siim folder, for example by SIIM_ROOT"),
        ("/nowhere", r"make it with `tools/prepare.py siim RAW /nowhere`, or let SIIM_ROOT point"),
    ],
)
def test_a_missing_folder_says_what_to_run(root, message):
    from covidmm.datasets.siim import SIIMDataset

    with pytest.raises(DataError, match=message):
        SIIMDataset(data_root=root, pipeline=[])


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
    whole = (roots / "siim/annotations/train.json").read_text()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text(change(whole))
    with pytest.raises(DataError, match=message):
        build("SIIMDataset", tmp_path)
