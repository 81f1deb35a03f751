"""The configs that MMDetection ships, and why covidmm refuses some of them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import mmdet

from covidmm.engine.config import load_config
from covidmm.errors import CovidmmError

FOLDER = Path(mmdet.__file__).parent / ".mim/configs"
SHIPPED = sorted(
    f"{path.parent.name}/{path.name}"
    for path in FOLDER.glob("*/*.py")
    if path.parent.name not in ("_base_", "common", "__pycache__")
)

#: Pattern of names -> what is said of them. Each is a mistake of the config, or needs a package that is not there.
REFUSED = {
    # no such metric is registered: the name has a letter too much
    r"bytetrack/.*mot20test": "unknown type 'MOTChallengeMetrics'",
    # a base that MMDetection does not ship, or calls otherwise
    r"bytetrack/.*amp-80e_crowdhuman-mot17": "FileNotFoundError",
    r"sort/.*(mot17train_test|mot20)": "FileNotFoundError",
    # CascadeRPNHead wants num_classes, and its stages take no `sampling`: MMDetection cannot build it either
    r"cascade_rpn/cascade-rpn_r50": "unknown key 'model.rpn_head.stages.0.sampling'",
    # parts of configs, to be inherited: they name no scope
    r"(centernet/centernet|retinanet/retinanet|rtmdet/rtmdet|yolox/yolox)_tta": "unknown type",
    # filter_cfg.bbox_min_size is read for VOC's files alone
    r"dsdl/(coco|objects365v2|openimagesv6|voc)": "bbox_min_size",
    # `data` is of MMDetection 2
    r"guided_anchoring/ga-fast-rcnn": "unknown key 'data'",
    # anchor-free heads that assign by themselves, with an assigner left over
    r"nas_fcos/|v3det/fcos_r50": "unknown key 'model.train_cfg.assigner'",
    r"v3det/fcos_swinb": "unknown key 'model.neck.force_grad_on_level'",
    # CocoMetric inherits the keys of VOCMetric
    r"pascal_voc/.*cocofmt": "val_evaluator.eval_mode",
}
if find_spec("mmpretrain") is None:
    REFUSED |= {
        r"convnext/|rtmdet/.*convnext|timm_example/": "no module named 'mmpretrain'",
        r"reid/|deepsort/|strongsort/": "of BaseReID",  # which is mmpretrain's ImageClassifier where that is installed
    }


def refusal(name: str) -> str | None:
    """What is said of a config; None if it is taken."""
    try:
        load_config(FOLDER / name)
    except CovidmmError as error:
        return str(error)
    return None


def unexpected(name: str, found: str | None) -> str | None:
    """A line on a config that is refused for another reason than those listed; None for all others."""
    reasons = [reason for pattern, reason in REFUSED.items() if re.match(pattern, name)]
    return None if found is None or any(reason in found for reason in reasons) else f"{name}: {found}"
