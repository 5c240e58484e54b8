"""What is said about a data set: shapes, counts, licence, citation. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from trainoff.registry import Entry


@dataclass(frozen=True)
class DataModuleEntry(Entry):
    """One data set of the registry; ``paper`` holds what to cite.

    Args:
        num_samples: Samples over all splits.
        input_shape: The shape of one input, without the batch.
        num_classes: The number of classes; None for regression.
        licence: The licence of the data.
        size_bytes: Bytes of the source files as they are downloaded or installed (compressed where they are
            compressed); of the generated arrays where there are no files.
        goal: What is learned, where that is neither classification nor regression.
    """

    num_samples: int = 0
    input_shape: tuple[int, ...] = ()
    num_classes: int | None = None
    licence: str = ""
    size_bytes: int = 0
    goal: str = ""

    @property
    def citation(self) -> str:
        """What to cite: author, year, title."""
        return self.paper

    @property
    def details(self) -> str:
        """Shape, classes, samples, size, licence, citation, in one line; what the user's file decides is left out."""
        what = f"{self.num_classes} classes" if self.num_classes else self.task
        facts = [f"inputs {self.input_shape}, {what}"] if self.input_shape else []
        facts += [f"{self.num_samples:,} samples"] if self.num_samples else []
        facts += [_size(self.size_bytes)] if self.size_bytes else []
        return "; ".join(filter(None, [", ".join(facts), self.licence, self.paper]))

    @property
    def task(self) -> str:
        """``"classification"``, ``"regression"``, ``"language modelling"`` or ``"sequence to sequence"``."""
        return self.goal or ("regression" if self.num_classes is None else "classification")


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"
