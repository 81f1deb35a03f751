"""The detection metrics as an MMEngine metric."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from covidmm.atomic import json_bytes, write_bytes
from covidmm.errors import DataError
from covidmm.evaluation.detection import score_detections


@METRICS.register_module()
class DetectionMetric(BaseMetric):
    """mAP by pycocotools, and precision, recall and F1 at one confidence threshold, as ``detection/...``.

    Ground truth comes from the annotation file, not from the pipeline, so no transform can change it.

    Args:
        ann_file: COCO detection file.
        threshold: the confidence threshold that validation chose; None maximises F1 on the set at hand.
        outfile: where to keep the predictions, as a COCO results list in pixels of the prepared images.
        collect_device: as every MMEngine metric.
        prefix: as every MMEngine metric.
    """

    default_prefix = "detection"

    def __init__(
        self,
        ann_file: str,
        threshold: float | None = None,
        outfile: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = Path(ann_file)
        self.threshold = threshold
        self.outfile = Path(outfile) if outfile else None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's predictions in plain values."""
        for sample in data_samples:
            instances = sample["pred_instances"]
            boxes = instances["bboxes"].cpu().float().numpy().astype(float)
            boxes[:, 2:] -= boxes[:, :2]
            self.results.append(
                {
                    "image_id": int(sample["img_id"]),
                    "boxes": boxes.tolist(),
                    "scores": instances["scores"].cpu().float().tolist(),
                    "labels": instances["labels"].cpu().tolist(),
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Score all predictions.

        Raises:
            DataError: the annotation file is missing, or has no box for the evaluated images.
        """
        logger = MMLogger.get_current_instance()
        truth = self._truth({result["image_id"] for result in results}, logger)
        categories = [category["id"] for category in truth["categories"]]
        predictions = [
            {
                "image_id": result["image_id"],
                "category_id": categories[label],
                "bbox": box,
                "score": score,
            }
            for result in results
            for box, score, label in zip(result["boxes"], result["scores"], result["labels"], strict=True)
        ]
        if not predictions:
            logger.warning("not a single box was predicted in %d images", len(results))
        if self.outfile is not None:
            self.outfile.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.outfile, json_bytes(predictions))
        return score_detections(truth, predictions, self.threshold)

    def _truth(self, evaluated: set[int], logger: MMLogger) -> dict[str, Any]:
        """The annotation file, cut to the evaluated images."""
        if not self.ann_file.is_file():
            raise DataError(f"{self.ann_file}: no such annotation file")
        truth = json.loads(self.ann_file.read_text())
        images = [image for image in truth["images"] if image["id"] in evaluated]
        if len(images) < len(truth["images"]):
            logger.warning("%s: scored %d of %d images", self.ann_file, len(images), len(truth["images"]))
        boxes = [annotation for annotation in truth["annotations"] if annotation["image_id"] in evaluated]
        return {**truth, "images": images, "annotations": boxes}
