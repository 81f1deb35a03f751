"""The way in which a config predicts: a confidence threshold belongs to the one that chose it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

#: Where a checkpoint's provenance keeps the way in which its validation predicted.
PREDICTING = "predicting_sha256"
#: Steps that change no pixel.
_NO_PIXELS = ("LoadAnnotations", "PackDetInputs")


def predicting_sha256(cfg: Mapping[str, Any], pipeline: Sequence[Mapping[str, Any]]) -> str:
    """A hash of how boxes are chosen and images are transformed, test-time augmentation aside.

    Args:
        cfg: config with a ``model``.
        pipeline: the transforms of the images.
    """
    steps = [dict(step) for step in pipeline if step.get("type") not in _NO_PIXELS]
    parts = [(cfg.get("model") or {}).get("test_cfg"), steps]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()
