"""The detection metrics as an MMEngine metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from covidmm.datasets.annotations import read_annotations
from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.coco_dicts import of_classes, require_finite
from covidmm.evaluation.detection import score_detections
from covidmm.utils.boxes import cut_to_image, xywh
from covidmm.utils.fileio import json_bytes, write_bytes


@METRICS.register_module()
class DetectionMetric(BaseMetric):
    """mAP as COCOeval has it, and precision, recall and F1 at one confidence threshold, as ``detection/...``.

    Ground truth comes from the annotation file, not from the pipeline, so no transform can change it. Of its
    categories, the classes of the data set count and no others, as in MMDetection's ``CocoMetric``.

    Args:
        ann_file: COCO detection file.
        threshold: the confidence threshold that validation chose; None maximises F1 on the set at hand.
        thresholds: those of single classes, by name.
        class_map: name of a category -> name of the class, as of the data set.
        outfile: where to keep the predictions, as a COCO results list in pixels of the prepared images.
        collect_device: as in every MMEngine metric.
        prefix: as in every MMEngine metric.
    """

    default_prefix = "detection"

    def __init__(
        self,
        ann_file: str,
        threshold: float | None = None,
        thresholds: Mapping[str, float] | None = None,
        class_map: Mapping[str, str | None] | None = None,
        outfile: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = Path(ann_file)
        self.threshold = threshold
        self.thresholds = thresholds
        self.class_map = class_map
        self.outfile = Path(outfile) if outfile else None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's predictions, cut to their images, in plain values."""
        for sample in data_samples:
            instances = sample["pred_instances"]
            shape = tuple(sample["ori_shape"][:2])
            boxes, kept = cut_to_image(instances["bboxes"].cpu().double().numpy(), shape)
            self.results.append(
                {
                    "image_id": int(sample["img_id"]),
                    "shape": shape,
                    "boxes": xywh(boxes[kept]).tolist(),
                    "scores": instances["scores"].cpu().double().numpy()[kept].tolist(),
                    "labels": instances["labels"].cpu().numpy()[kept].tolist(),
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Score the predictions of all images that were evaluated and that the annotation file has.

        Returns:
            What :func:`score_detections` gives; that of single classes as ``mAP_50_NAME``, see
            :func:`~covidmm.evaluation.detection_details.by_class`.

        Raises:
            DataError: the annotation file is missing, does not fit the images, or has no box in them; a
                prediction is not finite.
            ConfigError: a predicted label has no category.
        """
        logger = MMLogger.get_current_instance()
        whole = read_annotations(self.ann_file)
        # keyed by image, for an image that a sampler repeats is scored once
        by_image = {result["image_id"]: result for result in results}
        classes = (self.dataset_meta or {}).get("classes")
        truth = of_classes(self.ann_file, whole, set(by_image), classes, self.class_map)
        scored = [by_image[image["id"]] for image in truth["images"]]
        if len(scored) < max(len(by_image), len(whole["images"])):
            text = "%s: scored the %d images that are both in this file (%d) and evaluated (%d)"
            logger.warning(text, self.ann_file, len(scored), len(whole["images"]), len(by_image))
        if not scored:
            raise DataError(f"{self.ann_file}: has none of the {len(by_image)} images that were evaluated")
        self._require_shapes(truth["images"], by_image)
        predictions = self._predictions(scored, truth["categories"])
        if not predictions:
            logger.warning("No box was predicted in %d images: every metric is 0", len(scored))
        require_finite(predictions)
        if self.outfile is not None:
            self.outfile.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.outfile, json_bytes(predictions))
        try:
            found = score_detections(truth, predictions, self.threshold, thresholds=self.thresholds)
        except DataError as error:
            raise DataError(f"{self.ann_file}: {error}") from error
        boxed = {one["category_id"] for one in truth["annotations"] if not one.get("iscrowd")}
        absent = [category["name"] for category in truth["categories"] if category["id"] not in boxed]
        if absent:
            text = "No true box of %s in %d images: means are over other classes"
            logger.warning(text, ", ".join(absent), len(scored))
        if predictions and not any(one["score"] >= found["threshold"] for one in predictions):
            text = "None of %d predictions reaches the threshold %.3f: precision, recall and F1 are 0"
            logger.warning(text, len(predictions), found["threshold"])
        per_class = found.pop("per_class", {})
        return found | {f"{key}_{name}": value for name, own in per_class.items() for key, value in own.items()}

    def _require_shapes(self, images: Sequence[dict[str, Any]], by_image: dict[int, dict[str, Any]]) -> None:
        """Boxes can only be compared in one and the same pixel grid."""
        for image in images:
            annotated, read = (image["height"], image["width"]), by_image[image["id"]]["shape"]
            if annotated != read:
                raise DataError(
                    f"{self.ann_file}: image {image['id']} is annotated at height x width {annotated}, "
                    f"but {read} was evaluated; prepare the data set again"
                )

    def _predictions(self, scored: Sequence[dict[str, Any]], categories: Sequence[dict[str, Any]]) -> list:
        """A COCO results list; labels become category ids as mmdet's CocoDataset made them labels."""
        ids = [category["id"] for category in categories]
        worst = max((label for result in scored for label in result["labels"]), default=-1)
        if worst >= len(ids):
            raise ConfigError(f"label {worst} was predicted, but {self.ann_file} has {len(ids)} of the classes")
        return [
            {"image_id": result["image_id"], "category_id": ids[label], "bbox": box, "score": score}
            for result in scored
            for box, score, label in zip(result["boxes"], result["scores"], result["labels"], strict=True)
        ]
