"""What pruning has come to: zeros, bytes, the time of a forward pass, and validation before and after."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from trainoff.benchmarks.meters.curves import find_logged
from trainoff.benchmarks.meters.latency import first_sample, forward_seconds
from trainoff.benchmarks.meters.meter import Meter
from trainoff.benchmarks.record import Compression, Quality
from trainoff.modules.pruning.base import Pruning, pruning_of
from trainoff.modules.pruning.packed_state import pack
from trainoff.modules.pruning.prunable_weights import prunable_weights


class CompressionMeter(Meter):
    """Remembers the last validation before the first pruning, and measures what is left after training.

    Args:
        metric: Short name of the task's metric.
    """

    kept = ("before",)

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.before: float | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the metric, as long as nothing is pruned."""
        pruning = pruning_of(pl_module)
        if pruning is not None and pruning.in_training and not pruning.masks and trainer.state.fn == "fit":
            self.before = find_logged(trainer.callback_metrics, "val", self.metric)

    def measure(
        self,
        module: L.LightningModule,
        datamodule: L.LightningDataModule,
        quality: Quality,
        val_metrics: list[float | None],
    ) -> Compression | None:
        """What the record says; ``None`` for a recipe that prunes nothing.

        Args:
            module: In the state that the headline is of.
            datamodule: Set up for fit; a sample of its validation split is forwarded.
            quality: The scores of that state.
            val_metrics: Validation's metric after each epoch, as it was in training.
        """
        pruning = pruning_of(module)
        if pruning is None:
            return None
        before, best = self.before, quality.best_epoch
        if not pruning.in_training:
            before = val_metrics[best - 1] if best is not None else None
        every = [p.detach() for p in module.parameters()]
        prunable = [p.detach() for p in prunable_weights(module).values()]
        sample = first_sample(next(iter(datamodule.val_dataloader()), None))
        dense_bytes, dense_latency = _file_bytes(module.state_dict()), forward_seconds(module, sample)
        with deployed(pruning, module):
            return Compression(
                sparsity=_zeros(prunable),
                sparsity_all=_zeros(every),
                bytes_on_disk=_file_bytes(pack(module.state_dict())),
                dense_bytes=dense_bytes,
                latency_seconds=forward_seconds(module, sample) if not pruning.in_training else dense_latency,
                dense_latency_seconds=dense_latency,
                metric_before=before,
                metric_after=quality.best.val.metric,
                pruned=pruning.pruned,
                spliced=pruning.spliced,
            )


@contextlib.contextmanager
def deployed(pruning: Pruning, module: nn.Module) -> Iterator[None]:
    """The module as it would be used, where the method puts something else in the weights' place."""
    convert, restore = getattr(pruning, "convert", None), getattr(pruning, "restore", None)
    if convert is None or restore is None:
        yield
        return
    convert(module)
    try:
        yield
    finally:
        restore(module)


def _zeros(tensors: list[Tensor]) -> float | None:
    total = sum(tensor.numel() for tensor in tensors)
    return sum(int((tensor == 0).sum()) for tensor in tensors) / total if total else None


def _file_bytes(state: Mapping[str, Any]) -> int:
    file = io.BytesIO()
    torch.save(dict(state), file)
    return file.tell()
