"""What a checkpoint holds beside weights, as values that are read back without unpickling."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.logging import HistoryBuffer


def plain_history(buffer: HistoryBuffer) -> dict[str, Any]:
    """The values of a scalar in the log, as tensors of float64 and int64 (N,)."""
    values, counts = buffer.data
    return {
        "values": torch.as_tensor(values, dtype=torch.float64),
        "counts": torch.as_tensor(counts, dtype=torch.int64),
        "max_length": buffer.max_length,
    }


def plain(value: Any) -> Any:
    """Dicts, lists and scalars of Python's own types; tensors stay, the rest becomes its text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        # numpy's float64 is a float, but pickles as a numpy object
        return value.item() if hasattr(value, "item") and not isinstance(value, torch.Tensor) else value
    return value.item() if hasattr(value, "item") else str(value)
