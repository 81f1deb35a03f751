"""The classification metrics as an MMEngine metric, per image or per study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from covidmm.errors import ConfigError, DataError
from covidmm.utils.fileio import json_bytes, write_bytes


@METRICS.register_module()
class LabelMetric(BaseMetric):
    """Scores label vectors. The prefix names what they describe: ``findings`` of images, or ``study``.

    With ``aggregate`` the images of a study count as one: the ``mean`` or the ``max`` of their probabilities, rescaled
    to a sum of 1 in a single-label task; of several labels, a study has those of all its images. A single-label task
    also gets its calibration error, and, on validation, the temperature that calibrates it.

    Args:
        classes: names of the classes; None for those of the data set.
        multi_label: any number of classes per image, instead of exactly one.
        aggregate: ``mean``, ``max`` or None for images on their own.
        temperature: logits are divided by it; None fits it to the set at hand, which only validation may.
        outfile: where to keep details: per class, confusion matrix, calibration, and every prediction.
        collect_device: as in every MMEngine metric.
        prefix: as in every MMEngine metric.

    Raises:
        ConfigError: an unknown way to aggregate.
    """

    def __init__(
        self,
        classes: Sequence[str] | None = None,
        multi_label: bool = False,
        aggregate: str | None = None,
        temperature: float | None = None,
        outfile: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = "study",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if aggregate not in (None, "mean", "max"):
            raise ConfigError(f"aggregate is '{aggregate}', it can be 'mean', 'max' or None")
        self.classes = None if classes is None else tuple(classes)
        self.multi_label = multi_label
        self.aggregate = aggregate
        self.temperature = temperature
        self.outfile = Path(outfile) if outfile else None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's logits and targets."""
        for sample in data_samples:
            self.results.append(
                {
                    "image_id": sample["image_id"],
                    "study_id": sample["study_id"],
                    "logits": sample["logits"].cpu().double().tolist(),
                    "target": sample["target"].tolist(),
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Score every image, or study, once.

        Raises:
            DataError: images of a study have different labels, of which exactly one can hold.
        """
        # scikit-learn takes half a second to import, and a detector registers this metric without using it
        from scipy.special import expit, softmax

        from covidmm.evaluation.classification import calibration, confusion, fit_temperature, score_labels

        classes = tuple(self.dataset_meta["classes"]) if self.classes is None else self.classes
        rows = list({row["image_id"]: row for row in results}.values())
        logits, targets = (np.array([row[key] for row in rows]) for key in ("logits", "target"))
        found: dict[str, Any] = {}
        if self.multi_label:
            scores = expit(logits)
        else:
            # fitted per image, before studies are joined
            temperature = self.temperature or fit_temperature(logits, targets)
            found["temperature"] = temperature
            scores = softmax(logits / temperature, axis=1)
        names = [row["image_id"] for row in rows]
        if self.aggregate:
            studies = [row["study_id"] for row in rows]
            names, targets, scores = _by_study(studies, targets, scores, self.aggregate, self.multi_label)
        found |= score_labels(targets, scores, classes, self.multi_label)
        if not self.multi_label:
            found |= {"confusion": confusion(targets, scores), "calibration": calibration(targets, scores)}
            found["ece"] = found["calibration"]["ece"]
        found["cases"] = len(names)
        if self.outfile:
            predictions = [
                {"id": name, "target": target.tolist(), "scores": score.tolist()}
                for name, target, score in zip(names, targets, scores, strict=True)
            ]
            content = {"classes": list(classes), **found, "predictions": predictions}
            write_bytes(self.outfile, json_bytes(content, indent=2))
        self._log(found["per_class"])
        if found["absent"]:
            text = "%s: no case of %s: the means are over the other classes"
            MMLogger.get_current_instance().warning(text, self.prefix, ", ".join(found["absent"]))
        return {name: value for name, value in found.items() if isinstance(value, int | float)}

    def _log(self, per_class: dict[str, dict[str, Any]]) -> None:
        cells = [
            f"{name} AUROC {_text(one['auroc'])} AP {_text(one['ap'])} ({one['count']})"
            for name, one in per_class.items()
        ]
        MMLogger.get_current_instance().info("%s: %s", self.prefix, "; ".join(cells))


def _by_study(
    studies: list[str], targets: np.ndarray, scores: np.ndarray, how: str, multi_label: bool
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Join the images of each study, in the order of first appearance."""
    names = list(dict.fromkeys(studies))
    index = np.array([names.index(study) for study in studies])
    join = {"mean": np.mean, "max": np.max}[how]
    joined = np.stack([join(scores[index == number], axis=0) for number in range(len(names))])
    of_any = np.stack([targets[index == number].max(0) for number in range(len(names))])
    if multi_label:
        return names, of_any, joined
    for number in np.flatnonzero(of_any.sum(1) > 1):
        raise DataError(f"study {names[number]}: its images have different labels; score images, by aggregate=None")
    return names, of_any, joined / joined.sum(1, keepdims=True)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
