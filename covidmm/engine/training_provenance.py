"""What a training is made from, as its checkpoints say it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from covidmm.datasets.prepared_folder import data_digest
from covidmm.engine.predicting import PREDICTING, predicting_sha256
from covidmm.utils.provenance import resolved_sha256, versions


def training_provenance(cfg: Config) -> dict[str, Any]:
    """The provenance of a training; the data's hash is None where its folder has no ``prepared.json``.

    Of several folders the first one's is ``data_sha256``, and those of all are ``data_sha256_of_each``.
    """
    digests = [data_digest(Path(root)) for root in _roots(cfg.get("train_dataloader", {}).get("dataset", {}))]
    return {
        "data_sha256": digests[0] if digests else None,
        **({"data_sha256_of_each": digests} if len(digests) > 1 else {}),
        "config_resolved_sha256": resolved_sha256(cfg.to_dict()),
        PREDICTING: predicting_sha256(cfg, cfg.get("val_dataloader", {}).get("dataset", {}).get("pipeline", ())),
        "versions": versions(),
    }


def _roots(dataset: Any) -> Iterator[str]:
    """The folders of a data set's config, in wrappers and of several joined."""
    if isinstance(dataset, list | tuple):
        for one in dataset:
            yield from _roots(one)
    elif inner := dataset.get("datasets") or dataset.get("dataset"):
        yield from _roots(inner)
    else:
        yield dataset.get("data_root") or ""
