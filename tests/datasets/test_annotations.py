"""People's own COCO files: what is accepted means the same to covidmm, MMDetection and pycocotools; else one line."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from covidmm.datasets.annotations import read_annotations, require_classes, require_ids_for_coco_tools
from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import by_image
from covidmm.evaluation.detection import rank, score_detections

BOXES = [(image, [10.0 * k + 5, 10.0, 8.0 + k, 20.0]) for image in (1, 2, 3) for k in range(3)]


def coco(**changes):
    """Nine boxes on three images; ``changes`` are made to the first box, an image's, or the category's entry."""
    whole = {
        "images": [{"id": k, "file_name": f"é{k}.png", "width": 100, "height": 100} for k in (1, 2, 3)],
        "annotations": [
            {"id": k, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (image, box) in enumerate(BOXES, 1)
        ],
        "categories": [{"id": 1, "name": "opacity"}, {"id": 7, "name": "mass"}],
    }
    for part, values in changes.items():
        whole[part][0] |= values
    return whole


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def without(key):
    whole = coco()
    del whole["annotations"][0][key]
    return whole


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (without("id"), "image 1: a box has no whole number as id, but None; number the annotations"),
        (coco(annotations={"id": "1"}), "no whole number as id, but '1'"),
        (coco(annotations={"id": True}), "no whole number as id, but True"),
        (coco(annotations={"id": 2}), "image 1: a box has the id 2 of another box"),
        (coco(annotations={"bbox": [5, 5, 0, 9]}), "thinner than a pixel"),
        (coco(annotations={"bbox": [5, 5, 0.5, 9]}), "thinner than a pixel"),
        (coco(annotations={"bbox": [100, 5, 9, 9]}), "lies outside the image of 100 x 100 pixels"),
        (coco(annotations={"bbox": [5, -9, 9, 9]}), "lies outside the image"),
        (coco(annotations={"bbox": [5, 5, 9, True]}), "is no box"),
        (without("area"), r"the box \[5.0, 10.0, 8.0, 20.0\] has no area"),
        (coco(annotations={"area": 0}), "has the area 0, expected square pixels above 0"),
        (coco(annotations={"area": float("nan")}), "has the area nan"),
        (coco(annotations={"area": 1e11}), "has the area 1000"),
        (coco(annotations={"iscrowd": 2}), "iscrowd is 2, expected 0 or 1"),
        (coco(annotations={"iscrowd": None}), "iscrowd is None"),
        (coco(annotations={"ignore": 1}), "a box has ignore=1"),
        (coco(annotations={"category_id": True}), "of category True"),
        (coco(images={"file_name": "é2.png"}), "images 1 and 2 are one file, 'é2.png'"),
        (coco(images={"id": True}), "the id True"),
        (coco(categories={"name": "mass"}), "two categories are called 'mass'"),
    ],
)
def test_what_would_be_understood_differently_is_one_line(tmp_path, content, cause):
    with pytest.raises(DataError, match=rf"test\.json: .*{cause}") as caught:
        read_annotations(written(tmp_path / "test.json", content))
    assert "\n" not in str(caught.value)


def test_a_box_over_the_edge_is_taken_as_it_stands_and_said(tmp_path):
    path = written(tmp_path / "test.json", coco(annotations={"bbox": [90, 90, 15, 15]}))
    with pytest.warns(UserWarning, match=r"1 of 9 boxes reach over the edge .* \[90, 90, 15, 15\] of image 1"):
        assert read_annotations(path)["annotations"][0]["bbox"] == [90, 90, 15, 15]


def test_an_id_of_0_is_said_and_refused_where_mmdetections_metric_would_take_it_for_none(tmp_path):
    path = written(tmp_path / "test.json", coco(annotations={"id": 0}))
    with pytest.warns(UserWarning, match="an annotation has the id 0"):
        content = read_annotations(path)
    found = [{"image_id": image, "category_id": 1, "bbox": box, "score": 0.9} for image, box in BOXES]
    assert score_detections(content, found)["mAP_50"] == pytest.approx(1)
    with pytest.warns(UserWarning, match="id 0"), pytest.raises(DataError, match="CocoMetric takes for none"):
        require_ids_for_coco_tools(path)
    require_ids_for_coco_tools(written(tmp_path / "from_1.json", coco()))


def test_ids_of_a_truth_in_memory_never_change_its_score():
    found = [{"image_id": image, "category_id": 1, "bbox": box, "score": 0.9} for image, box in BOXES]
    for ids in (range(9), [1, 2, 3] * 3, [None] * 9):
        truth = coco()
        for annotation, number in zip(truth["annotations"], ids, strict=True):
            annotation["id"] = number
        assert score_detections(truth, found)["mAP_50"] == pytest.approx(1)


def test_classes_are_in_the_order_of_the_file(tmp_path):
    require_classes("a.json", ("mass", "other", "opacity"), ("mass", "opacity"))
    with pytest.raises(DataError, match=r"a\.json: has the categories \['mass'\], not 'opacity'"):
        require_classes("a.json", ("mass",), ("mass", "opacity"))
    with pytest.raises(DataError, match=r"lists its categories as \['mass', 'opacity'\]"):
        require_classes("a.json", ("mass", "opacity"), ("opacity", "mass"))


def random_case(seed):
    """Truth with crowds, absent flags, odd ids, boxes over the edge; predictions near them, in crowds, and anywhere."""
    random = np.random.default_rng(seed)
    sizes = {int(number): (random.integers(60, 200), random.integers(60, 200)) for number in (0, 9, 4, 77)}
    truth = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": int(width), "height": int(height)}
            for number, (width, height) in sizes.items()
        ],
        "annotations": [],
        "categories": [{"id": 3, "name": "b"}, {"id": 0, "name": "a"}],
    }
    found = []
    for number, (width, height) in sizes.items():
        for k in range(random.integers(0, 6)):
            x, y = random.uniform(-5, width * 0.8), random.uniform(-5, height * 0.8)
            box = [x, y, random.uniform(6, width / 2), random.uniform(6, height / 2)]
            one = {"id": 10 * number + k, "image_id": number, "category_id": int(random.choice([0, 3])), "bbox": box}
            one["area"] = box[2] * box[3] * random.uniform(0.3, 1)
            if random.random() < 0.4:
                one["iscrowd"] = int(random.random() < 0.7)
            truth["annotations"].append(one)
            for _ in range(random.integers(0, 4)):
                near = np.array(box) + random.normal(0, 3, 4)
                inside = [x + box[2] / 4, y + box[3] / 4, box[2] / 3, box[3] / 3]
                chosen = inside if random.random() < 0.3 else [*near[:2], *np.maximum(near[2:], 2)]
                score, label = round(random.uniform(0, 1), 1), int(random.choice([0, 3]))
                found.append(
                    {"image_id": number, "category_id": label, "bbox": list(map(float, chosen)), "score": score}
                )
    return truth, found


def by_pycocotools(truth, found):
    with contextlib.redirect_stdout(io.StringIO()):
        document = COCO()
        annotations = [{"iscrowd": 0, **one, "id": k} for k, one in enumerate(truth["annotations"], 1)]
        document.dataset = json.loads(json.dumps({"info": {}, **truth, "annotations": annotations}))
        document.createIndex()
        evaluation = COCOeval(document, document.loadRes([dict(one) for one in found]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    scored = [k for k in range(precision.shape[2]) if (precision[:, :, k] > -1).any()]
    return [float(np.mean([part[:, k].mean() for k in scored])) for part in (precision[0], precision.reshape(-1, 2))]


@pytest.mark.filterwarnings("ignore:.*reach over the edge|.*id 0")
@pytest.mark.parametrize("seed", range(12))
def test_odd_but_valid_files_score_as_by_pycocotools(tmp_path, seed):
    truth, found = random_case(seed)
    content = read_annotations(written(tmp_path / "test.json", truth))
    if not found or all(one.get("iscrowd") for one in truth["annotations"]):
        pytest.skip("nothing to score")
    scored = score_detections(
        {**content, "images": [{**i, "study_id": str(i["id"])} for i in content["images"]]}, found
    )
    expected = by_pycocotools(truth, found)
    assert [scored["mAP_50"], scored["mAP"]] == pytest.approx(expected, abs=1e-12)
    assert scored["boxes"] == sum(not one.get("iscrowd") for one in truth["annotations"])
    # and by the matching that intervals are made of
    numbers = sorted(image["id"] for image in content["images"])
    areas = []
    for category in {one["category_id"] for one in content["annotations"] if not one.get("iscrowd")}:
        own = [one for one in content["annotations"] if one["category_id"] == category]
        kinds = ([one for one in own if bool(one.get("iscrowd")) == crowd] for crowd in (False, True))
        truths, crowds = ([boxes for boxes, _ in by_image(kind, numbers)] for kind in kinds)
        results = by_image([one for one in found if one["category_id"] == category], numbers)
        areas.append(rank(results, truths, coco=True, crowds=crowds).coco_ap())
    assert np.mean(areas) == pytest.approx(expected[0], abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*reach over the edge|.*id 0")
@pytest.mark.parametrize("seed", range(3))
def test_mmdetection_reads_the_same_boxes(tmp_path, seed):
    truth, _ = random_case(seed)
    content = read_annotations(written(tmp_path / "test.json", truth))
    init_default_scope("mmdet")
    names = {"classes": ("b", "a")}
    dataset = CocoDataset(ann_file=str(tmp_path / "test.json"), metainfo=names, pipeline=[], data_prefix={"img": ""})
    read = {
        (info["img_id"], tuple(np.round(one["bbox"], 6)), one["bbox_label"], one["ignore_flag"])
        for info in dataset.load_data_list()
        for one in info["instances"]
    }
    places = {3: 0, 0: 1}
    expected = set()
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        corners = tuple(np.round([x, y, x + width, y + height], 6))
        expected.add((one["image_id"], corners, places[one["category_id"]], one.get("iscrowd", 0)))
    assert read == expected
