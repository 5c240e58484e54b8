"""Any set that is held in memory, altered: noisy labels, a long tail, permuted pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import lightning as L
from torch import Tensor

from trainoff.datamodules.building import build_alterations, build_in_memory
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.table_sets import ALTERED

# Hooks that a wrapped DataModule may have of its own, such as augmentation on the device.
_HOOKS = ("transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer")


class Altered(L.LightningDataModule):
    """Another DataModule with alterations of its splits; ``trainoff list alterations`` shows them.

    All else is the wrapped DataModule's: its loaders, its hooks, its attributes (``input_shape``, ``num_classes``,
    ``licence``, ...), its ``digest()``, which follows the alterations. They come after its split and its
    standardisation, whose statistics are those of its whole training split; validation and test labels stay.

    Args:
        data: The DataModule, by name or as a mapping with its arguments; it holds its set in memory.
        alterations: What to do to its splits, in this order: names, or mappings with arguments.
        train_eval_samples: The size of the fixed part of the training split on which training metrics are taken; by
            default that of the test split.
        batch_size: Samples in a global training batch; by default the wrapped one's. May be set later.
        microbatches: Parts in which each batch is delivered; likewise.

    Raises:
        UserError: For an unknown name or argument; at :meth:`setup` where an alteration does not fit the set.
    """

    facts: ClassVar[DataModuleEntry] = ALTERED

    def __init__(
        self,
        data: str | dict[str, Any],
        alterations: Sequence[str | dict[str, Any]] = (),
        train_eval_samples: int | None = None,
        batch_size: int | Literal["full"] | None = None,
        microbatches: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.data = build_in_memory(data, "data")
        self.data.alterations = build_alterations(alterations, "alterations")
        self.data.train_eval_samples = train_eval_samples
        if batch_size is not None:
            self.batch_size = batch_size
        if microbatches is not None:
            self.microbatches = microbatches
        for hook in _HOOKS:
            # on the instance: Lightning then sees what the wrapped class overrides, and that alone
            setattr(self, hook, getattr(self.data, hook))

    @property
    def batch_size(self) -> int | Literal["full"]:
        """Samples in a global training batch."""
        return self.data.batch_size

    @batch_size.setter
    def batch_size(self, size: int | Literal["full"]) -> None:
        self.data.batch_size = size

    @property
    def microbatches(self) -> int:
        """Parts of each training batch."""
        return self.data.microbatches

    @microbatches.setter
    def microbatches(self, parts: int) -> None:
        self.data.microbatches = parts

    def setup(self, stage: str | None = None) -> None:
        """Load the splits and alter them, the first time."""
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def prepare_data(self) -> None:
        """Get what the wrapped DataModule needs."""
        self.data.prepare_data()

    def train_dataloader(self) -> Any:
        """The altered training split, as the wrapped DataModule gives it."""
        return self.data.train_dataloader()

    def val_dataloader(self) -> Any:
        """Likewise of validation."""
        return self.data.val_dataloader()

    def test_dataloader(self) -> Any:
        """Likewise of test."""
        return self.data.test_dataloader()

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets of ``"train"``, ``"val"`` or ``"test"``, altered."""
        return self.data.split(name)

    def __getattr__(self, name: str) -> Any:
        """What is not here is the wrapped DataModule's."""
        if name.startswith("__") or "data" not in vars(self):  # while it is built, copied or unpickled
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        return getattr(self.data, name)
