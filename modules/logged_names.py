"""The two spellings of a logged value's name: ``val/loss`` is trainoff's, ``val_loss`` is as common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L

from trainoff.errors import UserError, closest


def find_name(name: str, logged: Mapping[str, Any], where: str) -> str:
    """The name as it is logged: as given, or in the other spelling.

    Args:
        name: Such as ``val/loss``.
        logged: Lightning's metrics.
        where: Whose name it is, for the message.

    Raises:
        UserError: Where neither is logged; names what is.
    """
    for spelling in (name, name.replace("/", "_", 1), name.replace("_", "/", 1)):
        if spelling in logged:
            return spelling
    names = ", ".join(sorted(logged)) or "nothing"
    raise UserError(f"no '{name}' is logged{closest(name, logged)}; there is {names}", where)


def resolve_monitors(trainer: L.Trainer) -> None:
    """Let each schedule that reads a logged value find it in either spelling; call it when validation has ended."""
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor is not None:
            config.monitor = find_name(config.monitor, trainer.callback_metrics, "schedule.monitor")
