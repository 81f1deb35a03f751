import json
import logging
import pickle

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

import covidmm.registration  # noqa: F401
from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.detection import score_detections
from covidmm.evaluation.detection_details import by_class

TRUTHS = {1: [[10.0, 10, 20, 30]], 2: [], 3: [[5.0, 5, 40, 40], [60.0, 20, 30, 50]], 4: [[0.0, 0, 30, 30]]}


@pytest.fixture
def document():
    boxes = [(image, box) for image, boxes in TRUTHS.items() for box in boxes]
    return {
        "images": [{"id": image, "width": 100, "height": 80, "file_name": f"{image}.png"} for image in TRUTHS],
        "annotations": [
            {"id": k, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (image, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "opacity"}],
    }


@pytest.fixture
def file(tmp_path, document):
    path = tmp_path / "annotations" / "test.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def log():
    """The warnings that the metric logs."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def sample(image, boxes, scores=None, labels=None, shape=(80, 100)):
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    scores = torch.linspace(0.9, 0.4, len(boxes)) if scores is None else torch.tensor(scores)
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels)
    return DetDataSample(
        metainfo={"img_id": image, "ori_shape": shape, "scale_factor": (2.0, 2.0)},
        pred_instances=InstanceData(bboxes=corners, scores=scores, labels=labels),
    )


def evaluate(file, samples, size=None, classes=("opacity",), **options):
    """By the same road as a Runner: built from a config, fed with batches of data samples."""
    evaluator = Evaluator(METRICS.build({"type": "DetectionMetric", "ann_file": str(file), **options}))
    evaluator.dataset_meta = {"classes": classes}
    for start in range(0, len(samples), 2):
        evaluator.process(samples[start : start + 2], data_batch=None)
    return evaluator.evaluate(size or len(samples))


def shifted(by):
    return [sample(image, [[x + by, *others] for x, *others in boxes]) for image, boxes in TRUTHS.items()]


def test_perfect_predictions(file):
    metrics = evaluate(file, shifted(0))
    assert metrics["detection/mAP_50"] == metrics["detection/f1"] == pytest.approx(1)
    assert (metrics["detection/images"], metrics["detection/boxes"]) == (4, 4)
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_gives_what_the_function_gives_and_writes_what_it_scored(file, document, tmp_path):
    out = tmp_path / "new" / "predictions.json"
    metrics = evaluate(file, shifted(8), threshold=0.5, outfile=str(out))
    predictions = json.loads(out.read_text())
    assert [path.name for path in out.parent.iterdir()] == ["predictions.json"]
    expected = score_detections(document, predictions, threshold=0.5)
    assert metrics == {f"detection/{key}": value for key, value in expected.items()}
    assert 0 < metrics["detection/mAP_50"] < 1
    assert set(predictions[0]) == {"image_id", "category_id", "bbox", "score"}
    np.testing.assert_allclose(predictions[0]["bbox"], [18, 10, 20, 30], atol=1e-4)


def test_a_stored_threshold_keeps_the_boxes_that_chose_it(file):
    """Scores are float32 in the model and float64 in a checkpoint: the box at the threshold must stay."""
    chosen = evaluate(file, shifted(0))
    again = evaluate(file, shifted(0), threshold=chosen["detection/threshold"])
    assert again["detection/recall"] == chosen["detection/recall"] == 1


def test_cut_data_set(file, log):
    metrics = evaluate(file, shifted(0)[:2])
    assert (metrics["detection/images"], metrics["detection/boxes"]) == (2, 1)
    assert log == [f"{file}: scored the 2 images that are both in this file (4) and evaluated (2)"]


def test_an_image_that_the_file_lacks(file, log):
    metrics = evaluate(file, [*shifted(0), sample(9, [[0, 0, 5, 5]])])
    assert metrics["detection/images"] == 4
    assert metrics["detection/f1"] == 1
    assert "scored the 4 images that are both in this file (4) and evaluated (5)" in log[0]


def test_a_repeated_image_is_scored_once(file, log):
    metrics = evaluate(file, [*shifted(0), shifted(0)[0]])
    assert metrics["detection/precision"] == 1
    assert log == []


def test_no_prediction_is_loud(file, log):
    metrics = evaluate(file, [sample(image, []) for image in TRUTHS])
    assert metrics["detection/mAP_50"] == metrics["detection/f1"] == 0
    assert log == ["No box was predicted in 4 images: every metric is 0"]


def test_a_threshold_that_nothing_reaches_is_loud(file, log):
    metrics = evaluate(file, shifted(0), threshold=0.95)
    assert metrics["detection/precision"] == 0
    assert log == ["None of 4 predictions reaches the threshold 0.950: precision, recall and F1 are 0"]


def test_a_class_without_a_box_is_said_not_averaged_away(file, document, log):
    alone = evaluate(file, shifted(0))
    document["categories"].append({"id": 2, "name": "nodule"})
    file.write_text(json.dumps(document))
    found = evaluate(file, shifted(0), classes=("opacity", "nodule"))
    assert found["detection/mAP_50"] == alone["detection/mAP_50"]
    assert log == ["No true box of nodule in 4 images: means are over other classes"]


def test_results_can_be_sent_between_processes(file):
    metric = METRICS.build({"type": "DetectionMetric", "ann_file": str(file)})
    metric.process(None, [sample(1, TRUTHS[1]).to_dict()])
    assert pickle.loads(pickle.dumps(metric.results)) == metric.results
    assert not any(isinstance(value, torch.Tensor) for value in metric.results[0].values())


def test_labels_become_categories_as_mmdet_numbers_them(file, document, tmp_path):
    document["categories"] = [{"id": 7, "name": "other"}, {"id": 1, "name": "opacity"}]
    file.write_text(json.dumps(document))
    out = tmp_path / "predictions.json"
    evaluate(file, shifted(0), outfile=str(out))
    assert {prediction["category_id"] for prediction in json.loads(out.read_text())} == {1}


def test_more_classes_than_categories(file):
    with pytest.raises(ConfigError, match=r"label 1 was predicted, but .*test.json has 1 of the classes"):
        evaluate(file, [sample(1, TRUTHS[1], labels=[1])])


def test_another_pixel_grid(file):
    with pytest.raises(DataError, match=r"image 1 is annotated at height x width \(80, 100\), but \(160, 200\)"):
        evaluate(file, [sample(1, TRUTHS[1], shape=(160, 200))])


def test_a_diverged_model_leaves_no_predictions(file, tmp_path):
    out = tmp_path / "predictions.json"
    with pytest.raises(DataError, match="prediction for image 1: box or score is not finite"):
        evaluate(file, [sample(1, [[float("nan"), 0, 5, 5]])], outfile=str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "is not JSON"),
        ("[]", "is no COCO file, has no annotations, categories, images"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no image"),
    ],
)
def test_bad_annotation_file(file, content, message):
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        evaluate(file, shifted(0))
    assert str(file) in str(caught.value)


def test_no_box_in_the_evaluated_images(file):
    with pytest.raises(DataError, match=r"test.json: .*none of the evaluated images has a ground-truth box"):
        evaluate(file, [sample(2, [])])


def _one_of_two(rank, rendezvous, file, queue):
    torch.set_num_threads(1)  # a forked OpenMP may hang
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    # rank 1 gets a padded repetition of the first image, as MMEngine's sampler pads
    samples = [*shifted(3), shifted(3)[0]][rank::2] if rank == 0 else [*shifted(3)[1::2], shifted(3)[0]]
    queue.put(evaluate(file, samples, size=4))
    torch.distributed.destroy_process_group()


def test_two_processes_score_as_one(file, tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_one_of_two, args=(r, tmp_path / "meet", file, queue)) for r in range(2)]
    for worker in workers:
        worker.start()
    both = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert both[0] == both[1] == evaluate(file, shifted(3))


def test_boxes_are_cut_to_the_image_whatever_the_detector(file, tmp_path):
    out = tmp_path / "out.json"
    reaching = [sample(1, [[-20, 10, 50, 300], [100, 10, 30, 30]]), sample(2, []), *shifted(0)[2:]]
    evaluate(file, reaching, outfile=str(out))
    found = [one["bbox"] for one in json.loads(out.read_text()) if one["image_id"] == 1]
    assert found == [[0, 10, 30, 70]]


def test_categories_that_are_no_class_of_the_data_set_do_not_count(tmp_path, document):
    """A perfect detector of one of the file's categories is perfect, as MMDetection's CocoMetric has it."""
    found = [sample(image, boxes).to_dict() for image, boxes in TRUTHS.items()]
    document["categories"].insert(0, {"id": 9, "name": "nodule"})
    nodule = {"id": 99, "image_id": 2, "category_id": 9, "bbox": [1, 1, 9, 9], "area": 81}
    document["annotations"].append(nodule)
    path = tmp_path / "own.json"
    path.write_text(json.dumps(document))
    scored = []
    for kind, options in (("DetectionMetric", {}), ("CocoMetric", {"metric": "bbox"})):
        metric = METRICS.build({"type": kind, "ann_file": str(path), **options})
        metric.dataset_meta = {"classes": ("opacity",)}
        metric.process({}, found)
        scored.append(metric.evaluate(size=len(found)))
    assert scored[0]["detection/mAP"] == scored[1]["coco/bbox_mAP"] == pytest.approx(1)
    assert scored[0]["detection/boxes"] == 4


def test_classes_that_the_data_set_joins_are_one(file, document):
    document["categories"] = [{"id": 1, "name": "opacity"}, {"id": 4, "name": "effusion"}, {"id": 9, "name": "nodule"}]
    for annotation, category in zip(document["annotations"], (1, 4, 9, 4), strict=True):
        annotation["category_id"] = category
    file.write_text(json.dumps(document))
    joined = {"opacity": "lesion", "effusion": "lesion"}
    metric = METRICS.build({"type": "DetectionMetric", "ann_file": str(file), "class_map": joined})
    metric.dataset_meta = {"classes": ("nodule", "lesion")}
    found = [
        sample(1, [TRUTHS[1][0]], labels=[1]),
        sample(2, []),
        sample(3, TRUTHS[3], labels=[1, 0]),
        sample(4, TRUTHS[4], labels=[1]),
    ]
    metric.process({}, [one.to_dict() for one in found])
    flat = metric.evaluate(size=4)
    plain = {key.removeprefix("detection/"): value for key, value in flat.items()}
    nested = by_class(plain, ("nodule", "lesion"))
    assert nested["mAP_50"] == pytest.approx(1)
    assert {name: own["boxes"] for name, own in nested["per_class"].items()} == {"nodule": 1, "lesion": 3}
    assert nested["per_class"]["lesion"]["mAP_50"] == pytest.approx(1)
    assert not [key for key in nested if key.endswith(("nodule", "lesion"))]
