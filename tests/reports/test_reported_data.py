import json

import numpy as np
import pytest

from covidmm.errors import DataError
from covidmm.reports.reported_data import read_prepared, read_split


def test_images_boxes_and_classes_are_read(world):
    data = read_prepared(world.data)
    split = data.splits["test"]
    assert len(split.images) == 24
    assert split.class_counts() == {"negative": 6, "typical": 6, "indeterminate": 6, "atypical": 6}
    assert split.boxes[0].tolist() == [[20, 30, 70, 110], [120, 30, 170, 110]]
    assert data.boxed
    assert not data.multi_label
    # 50 x 80 at twice the width and 2 or 2.05 times the height
    assert np.unique(data.box_areas()).tolist() == [16000, pytest.approx(16400)]


def test_without_a_manifest_the_folder_still_counts(world):
    (world.data / "prepared.json").write_text("{half")
    assert read_prepared(world.data).manifest == {}


def test_labels_count_each(world):
    content = json.loads(world.annotations.read_text())
    for image in content["images"]:
        image |= {"study_class": None, "labels": ["Mass", "Edema"]}
    world.annotations.write_text(json.dumps(content))
    data = read_prepared(world.data)
    assert data.multi_label
    assert data.splits["test"].class_counts() == {"Mass": 24, "Edema": 24}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: text.replace('"original_width"', '"other"'),
        lambda text: text.replace('"image_id": 1,', '"image_id": 999,'),
    ],
    ids=["truncated", "a list", "a field is missing", "a box of no image"],
)
def test_a_damaged_file_is_named(world, damage):
    world.annotations.write_text(damage(world.annotations.read_text()))
    with pytest.raises(DataError, match=r"test\.json"):
        read_split(world.annotations)


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"tools/prepare\.py"):
        read_prepared(tmp_path)
