"""Batches sliced from tensors that are already in memory, on the device where they are used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from trainoff.errors import UserError
from trainoff.seeds import derive_seed


def epoch_order(samples: int, seed: int, epoch: int, replacement: bool = False) -> Tensor:
    """The order in which an epoch visits the samples: a pure function of its arguments.

    It has a generator of its own, so the global random state is neither read nor changed, and a resumed epoch has
    the order that it would have had.

    Args:
        samples: The number of samples.
        seed: The seed of the order.
        epoch: The epoch, from 0.
        replacement: Draw each position independently, so that some samples come twice and others not at all.

    Returns:
        Indices, int64, of shape ``(samples,)``, on the CPU.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    if replacement:
        return torch.randint(samples, (samples,), generator=generator)
    return torch.randperm(samples, generator=generator)


class BatchTransform(Protocol):
    """What is done to the batches after they are sliced, such as augmentation on the device."""

    def for_epoch(
        self, samples: int, seed: int, epoch: int, device: torch.device
    ) -> Callable[[tuple[Tensor, ...], int, int], tuple[Tensor, ...]]:
        """The function of one epoch, from a batch and its places to the batch that is yielded.

        It depends on its arguments alone, and leaves the global random state as it is.

        Args:
            samples: The number of samples in an epoch.
            seed: The seed of the order.
            epoch: The epoch, from 0.
            device: Where the tensors are.

        Returns:
            ``function(batch, start, stop)``: ``start`` and ``stop`` are the places of the batch's samples in the
            epoch's order over all ranks. It returns new tensors: those that it gets may be views of the data set.
        """
        ...


class TensorBatches:
    """An iterable over batches of in-memory tensors, for a Lightning Trainer or for a plain loop.

    Unlike torch's DataLoader it never touches single samples: a batch costs one ``index_select`` a tensor, or
    nothing where the order is that of the tensors (the batch is then a view of them). Batches are read-only by
    convention. Outside a Trainer call :meth:`set_epoch` before each epoch, or every epoch has the same order.

    Over several ranks each rank gets a contiguous, equal or near-equal share of every **global** batch, and every
    rank gets the same number of batches, so that no collective operation waits for ever.

    Args:
        tensors: Tensors of equal length, such as inputs and targets.
        batch_size: Samples in a global batch, over all ranks and micro-batches; ``"full"`` for all of them.
        microbatches: Yield each batch as this many consecutive near-equal parts, for a Trainer with
            ``accumulate_grad_batches`` equal to it. Only an epoch's last batch may yield fewer (one a sample),
            and the Trainer steps there anyway.
        shuffle: Visit the samples in a new order each epoch.
        seed: The seed of the order.
        replacement: Draw samples with replacement; an epoch is then as many draws as there are samples.
        rank: This process' place among the ranks that share the batches.
        world_size: The number of those ranks.
        equal_shares: For training, where gradients are averaged over ranks: all shares of a batch are equal, which
            leaves fewer than ``world_size`` samples out of an epoch. Otherwise shares are near-equal, no sample is
            left out, and a last batch of fewer samples than ranks joins the one before it.
        device: Where to move the tensors, once.
        transform: What is done to each batch.

    Raises:
        UserError: Where no such batches can be made: a batch size below 1, more micro-batches than samples, a batch
            that the ranks cannot share, fewer samples than ranks.
        ValueError: Where the tensors are of different lengths.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int | Literal["full"],
        microbatches: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        replacement: bool = False,
        rank: int = 0,
        world_size: int = 1,
        equal_shares: bool = False,
        device: torch.device | str | None = None,
        transform: BatchTransform | None = None,
    ) -> None:
        self.samples = len(tensors[0])
        if any(len(tensor) != self.samples for tensor in tensors):
            raise ValueError(f"tensors of lengths {[len(tensor) for tensor in tensors]} make no batches")
        if isinstance(batch_size, bool) or not (batch_size == "full" or isinstance(batch_size, int)):
            raise UserError(f"{batch_size!r} is neither a number of samples nor 'full'", "batch_size")
        if batch_size != "full" and batch_size < 1:
            raise UserError(f"{batch_size} is not a number of samples; it must be at least 1, or 'full'", "batch_size")
        if self.samples < world_size:
            raise UserError(f"{self.samples} samples cannot be shared by {world_size} devices; use fewer devices")
        self._stop = self.samples - self.samples % world_size if equal_shares else self.samples
        self._size = self._stop if batch_size == "full" else batch_size
        if equal_shares and self._size % world_size:
            raise UserError(
                f"a batch of {self._size} cannot be shared equally by {world_size} devices; make it a multiple of "
                f"{world_size}",
                "batch_size",
            )
        if not 1 <= microbatches <= max(1, self._size // world_size):
            raise UserError(
                f"{microbatches} does not divide a batch of {self._size} over {world_size} device(s); it must be "
                f"between 1 and {max(1, self._size // world_size)}",
                "microbatches",
            )
        self._count = -(-self._stop // self._size)
        if self._count > 1 and self._stop - (self._count - 1) * self._size < world_size:
            self._count -= 1
        self.tensors = tuple(tensor.to(device) for tensor in tensors) if device is not None else tensors
        self.batch_size = max(1, self._size // world_size // microbatches)  # of what is yielded, on this rank
        self.microbatches = microbatches
        self.shuffle = shuffle
        self.seed = seed
        self.replacement = replacement
        self.rank = rank
        self.world_size = world_size
        self.transform = transform
        self.epoch = 0
        self._yielded = 0
        self._resumed: dict[str, int] = {}

    @property
    def sampler(self) -> TensorBatches | SequentialSampler:
        """Itself where it shuffles: Lightning calls ``dataloader.sampler.set_epoch(epoch)`` before each epoch.

        Otherwise torch's sequential sampler, by which Lightning knows that nothing is shuffled.
        """
        return self if self.shuffle or self.replacement else SequentialSampler(range(self.samples))

    @property
    def batch_sampler(self) -> TensorBatches:
        """Itself: Lightning reads its ``sampler``, and the DeepSpeed strategy its ``batch_size``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is, and whose order it has; Lightning keeps it in checkpoints."""
        return {"epoch": self.epoch, "yielded": self._yielded, "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration go on there, where it is of the same epoch, in the order that it had."""
        self._resumed = dict(state_dict)
        self.seed = state_dict.get("seed", self.seed)

    def __len__(self) -> int:
        """The number of tuples that an epoch yields on this rank, micro-batches counted singly."""
        start, stop = self._share(self._count - 1)
        return (self._count - 1) * self.microbatches + min(self.microbatches, stop - start)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield one tuple of tensors for each batch or micro-batch."""
        # This is a generator: Lightning makes the first epoch's iterator before it sets the epoch, and the order is
        # read only when the first batch is asked for.
        resumed, self._resumed = self._resumed, {}
        begun = resumed.get("yielded", 0) if resumed.get("epoch") == self.epoch else 0
        # A whole epoch is over, and without a shuffle the next one bears the same number.
        self._yielded = begun if begun < len(self) else 0
        slice_batch, transform = self._slicing(), self._transforming()
        for start, stop in itertools.islice(self._parts(), self._yielded, None):
            self._yielded += 1
            batch = slice_batch(start, stop)
            yield batch if transform is None else transform(batch, start, stop)

    def _slicing(self) -> Callable[[int, int], tuple[Tensor, ...]]:
        """How this epoch takes a batch from the tensors: as views, or by the order that it has now."""
        if not (self.shuffle or self.replacement):
            return lambda start, stop: tuple(tensor[start:stop] for tensor in self.tensors)
        order = epoch_order(self.samples, self.seed, self.epoch, self.replacement).to(self.tensors[0].device)
        return lambda start, stop: tuple(tensor.index_select(0, order[start:stop]) for tensor in self.tensors)

    def _transforming(self) -> Callable[[tuple[Tensor, ...], int, int], tuple[Tensor, ...]] | None:
        if self.transform is None:
            return None
        return self.transform.for_epoch(self.samples, self.seed, self.epoch, self.tensors[0].device)

    def _share(self, batch: int) -> tuple[int, int]:
        """This rank's contiguous share of one global batch, as positions in the epoch's order."""
        first = batch * self._size
        size = (self._stop if batch == self._count - 1 else first + self._size) - first
        return first + size * self.rank // self.world_size, first + size * (self.rank + 1) // self.world_size

    def _parts(self) -> Iterator[tuple[int, int]]:
        """The positions of each micro-batch: the first ones are longer by one, as with ``torch.tensor_split``."""
        for batch in range(self._count):
            start, stop = self._share(batch)
            parts = min(self.microbatches, stop - start)
            length, longer = divmod(stop - start, parts)
            for part in range(parts):
                end = start + length + (part < longer)
                yield start, end
                start = end
