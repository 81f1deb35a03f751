"""Which of the processes of one run this is, as torchrun tells them."""

from __future__ import annotations

import os


def rank() -> int:
    """The number of this process, from 0; 0 outside of torchrun."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0
