"""Exports are read back by the layouts of the same names: the same boxes, classes and splits."""

import json

import numpy as np
import pytest

from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import DataError
from covidmm.outputs.label_export import export
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

OPTIONS = Options(workers=1, progress=False)
# with gaps, from 0, not in the alphabet's order, beyond ASCII
CATEGORIES = {0: "opacité", 7: "Nodule/Mass", 3: "<effusion & co>"}
NAMES = ("ä ö", "b.1", "plain", "図", "e", "f", "g", "h")


def write_raw(make, raw, seed, boxes_each=4):
    """COCO files for two splits of pictures with odd sizes, with random boxes to a thousandth of a pixel."""
    draw = np.random.default_rng(seed)
    for split, names in {"train": NAMES[:5], "val": NAMES[5:]}.items():
        images, annotations = [], []
        for number, name in enumerate(names, start=1 + 100 * (split == "val")):
            height, width = draw.integers(31, 120, 2) * 2 + 1
            path = raw / "pictures" / f"{name}.png"
            make.png(path, seed * 1000 + number, int(height), int(width))
            images.append({"id": number, "file_name": path.name, "width": int(width), "height": int(height)})
            for place in range(boxes_each if name != "plain" else 0):
                start = draw.uniform(0, 0.5, 2) * (width, height)
                sides = draw.uniform(2, 0.5 * np.array([width, height]))
                box = [round(float(value), 3) for value in (*start, *sides)]
                category = list(CATEGORIES)[int(draw.integers(3))]
                one = {"id": number * 10 + place, "image_id": number, "category_id": category, "bbox": box}
                annotations.append(one | {"iscrowd": int(place == 2)})
        named = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
        content = {"images": images, "annotations": annotations, "categories": named}
        (raw / f"{split}.json").write_text(json.dumps(content))
    return raw


def labels_of(folder, crowds=True):
    """Image -> its split and its boxes, in order, with their classes' names and whether they are crowds."""
    found = {}
    for split, one in read_prepared(folder).splits.items():
        for image in one.images:
            rows = [
                (one.categories[label], crowd, box)
                for boxes, labels, crowd in (
                    (image.boxes, image.labels, False),
                    (image.crowds, image.crowd_labels, True),
                )
                for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
                if crowds or not crowd
            ]
            found[image.image_id] = split, sorted(rows)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, (split, rows) in expected.items():
        own_split, own = found[name]
        assert own_split == split
        assert [row[:2] for row in own] == [row[:2] for row in rows]
        assert np.array([row[2] for row in own]) == pytest.approx(np.array([row[2] for row in rows]), abs=1e-3)


@pytest.fixture(scope="module", params=[1, 2])
def prepared(request, tmp_path_factory, make):
    folder = tmp_path_factory.mktemp("round")
    summary = prepare("coco", write_raw(make, folder / "raw", request.param), folder / "data", OPTIONS)
    assert (summary.skipped.total, summary.written) == (0, 8)
    return folder / "data"


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "table"])
def test_what_is_exported_is_read_back(prepared, tmp_path, kind):
    said = export(prepared, tmp_path / "out", kind)
    assert "train: 5 images, 12 boxes" in said
    (tmp_path / "out").rename(tmp_path / "moved")
    summary = prepare(kind, tmp_path / "moved", tmp_path / "again", OPTIONS)
    assert summary.skipped.total == 0
    crowds = kind != "yolo"
    assert ("7 crowds were left out" in said) != crowds
    expected = labels_of(prepared, crowds)
    assert sum(len(rows) for _, rows in expected.values()) == (28 if crowds else 21)
    assert_same(labels_of(tmp_path / "again", crowds), expected)
    categories = json.loads((tmp_path / "again/prepared.json").read_text())["classes"]
    assert (categories if kind in ("coco", "yolo") else sorted(categories)) == (
        list(CATEGORIES.values()) if kind in ("coco", "yolo") else sorted(CATEGORIES.values())
    )


def test_labels_of_whole_images_are_read_back_from_a_table(tmp_path, make):
    prepare("nih", make.nih(tmp_path / "raw", patients=6), tmp_path / "data", OPTIONS)
    export(tmp_path / "data", tmp_path / "out", "table")
    prepare("table", tmp_path / "out", tmp_path / "again", OPTIONS)
    first, again = (
        {image.image_id: (image.findings, image.patient) for image in read_prepared(tmp_path / name).images}
        for name in ("data", "again")
    )
    assert len(first) == 12
    assert again == first


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "table"])
def test_a_folder_without_labels_is_not_exported(tmp_path, make, kind):
    make.png(tmp_path / "raw/a.png")
    prepare("folder", tmp_path / "raw", tmp_path / "data", OPTIONS)
    with pytest.raises(DataError, match="has no box" if kind != "table" else "has neither boxes nor labels"):
        export(tmp_path / "data", tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


def test_pictures_of_one_name_get_names_of_their_own_in_voc(make, tmp_path):
    data = tmp_path / "data"
    for number, folder in enumerate(("s1", "s2")):
        make.png(data / "images" / folder / "image.png", number, 9, 11)
    entries = [
        {"id": number, "file_name": f"s{number}/image.png", "width": 11, "height": 9, "image_id": f"i{number}"}
        | {"original_width": 11, "original_height": 9, "study_id": "s", "study_class": None, "fold": 0, "patient": None}
        for number in (1, 2)
    ]
    box = {"id": 1, "image_id": 2, "category_id": 1, "bbox": [2, 3, 5, 4], "area": 20, "iscrowd": 0}
    content = {"images": entries, "annotations": [box], "categories": [{"id": 1, "name": "x"}]}
    (data / "annotations").mkdir()
    (data / "annotations/train.json").write_text(json.dumps(content))
    export(data, tmp_path / "out", "voc")
    assert sorted(path.name for path in (tmp_path / "out/JPEGImages").iterdir()) == ["s1_image.png", "s2_image.png"]
    text = (tmp_path / "out/Annotations/s2_image.xml").read_text()
    # counted from 1, the last pixel included
    for side, value in {"xmin": 3, "ymin": 4, "xmax": 7, "ymax": 7}.items():
        assert f"<{side}>{value}</{side}>" in text
