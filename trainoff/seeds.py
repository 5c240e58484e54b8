"""Seeds derived from one another, so that each source of randomness has its own and none disturbs another."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed that depends on ``seed`` and on what it is for, and on nothing else.

    It is the same on every machine and in every version of Python, NumPy and torch.

    Args:
        seed: The seed to derive from.
        *words: What the new seed is for, such as ``"order"`` or ``"epoch", 3``. ``3`` and ``"3"`` differ.

    Returns:
        A non-negative integer of 63 bits, which NumPy's and torch's generators both accept.
    """
    digest = hashlib.sha256(json.dumps([seed, *words]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
