"""How much faster several devices are than one: only where both were timed under the same conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainoff.leaderboards.standing import Standing


def with_speed_ups(rows: Sequence[Standing], settings: Sequence[Mapping[str, Any] | None]) -> list[Standing]:
    """Rows of several devices with their throughput by that of the row of the same setting on one device.

    Args:
        rows: Of one task.
        settings: Of each row; None for a row without a finished trial.
    """
    alone = [
        (_without_strategy(setting), row)
        for row, setting in zip(rows, settings, strict=True)
        if setting is not None and row.devices == 1 and row.samples_per_second
    ]
    return [_with_speed_up(row, setting, alone) for row, setting in zip(rows, settings, strict=True)]


def _with_speed_up(
    row: Standing, setting: Mapping[str, Any] | None, alone: Sequence[tuple[dict[str, Any], Standing]]
) -> Standing:
    if setting is None or row.devices == 1 or row.samples_per_second is None:
        return row
    wanted = _without_strategy(setting)
    for other, single in alone:
        comparable = single.timing and row.timing == f"{row.devices} × {single.timing}"
        if other == wanted and comparable and single.samples_per_second:
            return replace(row, speed_up=row.samples_per_second / single.samples_per_second)
    return row


def _without_strategy(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in setting.items() if key != "strategy"}
