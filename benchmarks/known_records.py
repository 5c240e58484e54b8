"""What a run keeps in mind of records: what chooses settings and tells what is superseded, not curves and times.

A record on disk is ten kilobytes and more; of a hundred thousand of them this keeps some hundred bytes each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trainoff.benchmarks.record import Curves, Overfitting, Quality, Record, Scores, Splits, Stability
from trainoff.benchmarks.store import Problem, RunFolder

_NOTHING: dict[str, Any] = {
    "error": None,
    "environment": None,
    "compression": None,
    "curves": Curves(),
    "overfitting": Overfitting(),
    "stability": Stability(),
}
_NO_SCORES, _NO_SPLITS = Scores(), Splits()


@dataclass
class KnownRecords:
    """Light records, by trial id.

    Args:
        records: Of those in the folder, what matters to a run.
        complaints: What is in the folder and is no record, a line each.
    """

    records: dict[str, Record] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _shared: dict[bytes, dict[str, Any]] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(folder: RunFolder) -> KnownRecords:
        """All that a folder holds.

        Raises:
            UserError: Where there is no such folder.
        """
        known = KnownRecords()
        for found in folder.read_each():
            if isinstance(found, Problem):
                known.complaints.append(f"{found.path.name} is skipped: {found.reason}")
            else:
                known.records[found.trial.id] = known.light(found)
        return known

    def light(self, record: Record) -> Record:
        """The record without what no choice looks at; what many have in common is held once."""
        trial = record.trial
        shared = {name: self._once(getattr(trial, name)) for name in ("setting", "task_config", "source_digests")}
        quality = record.quality
        if quality is not None:
            val = Scores(quality.best.val.metric)
            quality = Quality(quality.metric, quality.mode, None, Splits(_NO_SCORES, val, _NO_SCORES), _NO_SPLITS)
        return msgspec.structs.replace(
            record, trial=msgspec.structs.replace(trial, **shared), quality=quality, **_NOTHING
        )

    def _once(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return self._shared.setdefault(msgspec.json.encode(content), dict(content))
