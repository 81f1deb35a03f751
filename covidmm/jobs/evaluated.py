"""What a test of one model leaves: printed tables, ``metrics.json``, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.datasets.annotations import read_annotations
from covidmm.evaluation.coco_dicts import of_classes, read_results
from covidmm.evaluation.detection_details import by_class, with_details
from covidmm.evaluation.metric_tables import format_labels, format_table
from covidmm.evaluation.metrics_file import provenance, write_metrics
from covidmm.jobs.job_inputs import annotation_files, own_metric
from covidmm.utils.fileio import json_bytes, write_bytes
from covidmm.utils.provenance import sha256


@dataclass
class Evaluation:
    """One run of :func:`covidmm.jobs.train_test.evaluate`."""

    cfg: Config
    config: str
    resolved: str
    weights: Path
    predictions: Path
    seconds: float = 0.0
    threshold_source: str = "this split, maximising F1 (optimistic)"
    files: Mapping[int, Path] = field(default_factory=dict)  # of the images, by number, for boxes and pictures
    classes: Sequence[str] | None = None  # of the data set that was evaluated

    @property
    def metric(self) -> Any:
        """covidmm's own metric of the config, None where it has MMDetection's alone."""
        return own_metric(self.cfg.test_evaluator)

    @property
    def name(self) -> str:
        """What the detector is called in tables and in ``metrics.json``."""
        name = self.cfg.get("detector")  # MMDetection's semi-supervised configs call a part of the model so
        kind = self.cfg.model.type
        return name if isinstance(name, str) else str(getattr(kind, "__name__", kind)).lower()

    @property
    def metrics(self) -> Path:
        """The file that collects what was measured."""
        return Path(self.cfg.work_dir) / "metrics.json"

    def write(self, name: str, annotations: Path, **sections: Any) -> None:
        """Add sections, the seconds and the provenance of this run to ``metrics.json``; the last beside predictions."""
        origin = provenance(self.config, self.resolved, self.weights, annotations)
        if self.metric is not None:
            # from where metrics.json lies, so that the same command in another folder writes the same bytes
            place = os.path.relpath(self.predictions, self.metrics.parent)
            origin |= {"predictions": place, "predictions_sha256": sha256(self.predictions)}
            write_bytes(self.predictions.with_suffix(".provenance.json"), json_bytes(origin, indent=2))
        write_metrics(self.metrics, **sections, seconds={f"test_{name}": self.seconds}, provenance={name: origin})


def report_boxes(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    """Print and keep the scores of a detector; draw its pictures."""
    found["threshold_source"] = run.threshold_source
    name, found = run.name, by_class(found, run.classes or ())
    annotations, class_map = Path(run.metric.ann_file), run.metric.get("class_map")
    truth = of_classes(annotations, read_annotations(annotations), run.files, run.classes, class_map)
    found = with_details(found, truth, read_results(run.predictions))
    run.write(name, annotations, detectors={name: found})
    print(f"{found['images']} images, {found['boxes']} boxes; threshold from {found['threshold_source']}")
    print(format_table({name: found}))
    if per_class := found.get("per_class"):
        print(format_table(per_class))
    print(f"predictions: {run.predictions}")
    if show_dir:
        from covidmm.reports.pictures import draw_show_dir  # matplotlib takes a second, which a training saves

        files = annotations, run.predictions
        own = {one: values["threshold"] for one, values in (per_class or {}).items() if "threshold" in values}
        draw_show_dir(show_dir, run.files, *files, found["threshold"], name, run.classes, class_map, own)
        print(f"pictures: {show_dir}")


def report_labels(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    """Print and keep the scores of a classifier; draw its attention maps."""
    details = json.loads(run.predictions.read_text())
    del details["predictions"]
    dataset = run.cfg.test_dataloader.dataset
    name = run.metric.prefix
    run.write(name, Path(dataset.data_root, dataset.ann_file), **{name: details})
    print(f"{details['cases']} {'images' if run.metric.multi_label else 'studies'}")
    print(format_labels(details))
    print(f"predictions: {run.predictions}")
    if show_dir:
        from covidmm.reports.attention_pictures import draw_labels  # as above

        draw_labels(Path(show_dir), details, run.cfg, run.weights)
        print(f"pictures: {show_dir}")


def report_nothing(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    """Say that MMDetection's metrics keep no predictions."""
    print("no DetectionMetric or LabelMetric in test_evaluator: no predictions are kept")


def report_others(run: Evaluation, found: dict[str, Any]) -> None:
    """Print and keep what MMDetection's metrics found."""
    if not found:
        return
    for name, value in found.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    files = [path for _, path in annotation_files(run.cfg.test_dataloader, "test_dataloader")]
    files += [path for _, path in annotation_files(run.cfg.test_evaluator, "test_evaluator")]
    if files:
        run.write(run.name, files[0], evaluators={run.name: found})
    else:
        write_metrics(run.metrics, evaluators={run.name: found}, seconds={f"test_{run.name}": run.seconds})
