"""Imports every module that registers a class, once.

A config needs one line, which ``configs/_base_/default_runtime.py`` holds:
``custom_imports = dict(imports=['covidmm.registration'], allow_failed_imports=False)``.
"""

import covidmm.datasets.affine
import covidmm.datasets.findings_labels
import covidmm.datasets.prepared_datasets
import covidmm.datasets.transforms
import covidmm.datasets.yolov5_augment
import covidmm.engine.checkpointing
import covidmm.engine.hooks
import covidmm.engine.optimization
import covidmm.engine.preflight
import covidmm.evaluation.detection_metric
import covidmm.evaluation.label_metric
import covidmm.models.batch_augments
import covidmm.models.checkpoints
import covidmm.models.classifier
import covidmm.models.mmdet_repairs
import covidmm.models.pretrained
import covidmm.models.yolov5.assigner
import covidmm.models.yolov5.backbone
import covidmm.models.yolov5.coder
import covidmm.models.yolov5.head
import covidmm.models.yolov5.neck  # noqa: F401
