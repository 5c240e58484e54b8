"""Tasks learned one after the other within one training: what is forgotten of the earlier ones?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from trainoff.datamodules.building import build_datamodule
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.table_sets import TASK_SEQUENCE
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.tensor_batches import TensorBatches, epoch_order
from trainoff.errors import UserError


class TaskSequence(InMemoryDataModule):
    """Several sets of one shape in sequence: each is trained on for some epochs, and all are evaluated together.

    The tasks are other DataModules, such as ``digits`` and ``digits`` with permuted pixels (``altered``). Each split
    of each task is cut to that of the smallest one, so that a metric over all samples of validation or test is the
    mean over tasks; :meth:`task_dataloader` has one task's split alone. Inputs are as ``split`` gives them, without
    augmentation.

    The regularizer ``ewc`` asks :meth:`finished_tasks` at the start of each epoch, and anchors the weights where a
    task has come to its end.

    Args:
        tasks: DataModules that hold their sets in memory, by name or as mappings with arguments.
        epochs: Of each task; a training of ``len(tasks) * epochs`` epochs has them all. The last one goes on.
        batch_size: See :class:`InMemoryDataModule`.
        microbatches: Parts of each training batch.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For fewer than two tasks or one epoch, an unknown name or argument, a sequence among the tasks, or
            tasks of different shapes or classes, at :meth:`setup` where the data say them; likewise for alterations
            of the sequence as a whole.

    Source: Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks, section 2.2.
    """

    facts: ClassVar[DataModuleEntry] = TASK_SEQUENCE

    def __init__(
        self,
        tasks: Sequence[str | dict[str, Any]],
        epochs: int,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        replacement: bool = False,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        if isinstance(tasks, (str, Mapping)) or len(tasks) < 2:
            raise UserError(f"{tasks!r} is no sequence; give a list of two tasks or more", "tasks")
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise UserError(f"{epochs!r} is not a number of epochs; it must be at least 1", "epochs")
        self.epochs = epochs
        self.tasks = [build_task(choice, f"tasks.{number}") for number, choice in enumerate(tasks)]
        self._take_facts()

    def _take_facts(self) -> None:
        """The first task's facts, which the others must share."""
        first = self.tasks[0]
        self.input_shape, self.num_classes, self.output_size = first.input_shape, first.num_classes, first.output_size
        self.task, self.licence, self.citation = first.task, first.licence, first.citation
        for number, other in enumerate(self.tasks):
            for what in ("input_shape", "num_classes", "output_size", "task"):
                found, expected = getattr(other, what), getattr(first, what)
                if found != expected:
                    raise UserError(
                        f"has {what} {found}, the first task {expected}; one net cannot learn both", f"tasks.{number}"
                    )

    def prepare_data(self) -> None:
        """Get what the tasks need."""
        for task in self.tasks:
            task.prepare_data()

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Each split of the tasks, one task after the other."""
        if self.alterations or self.train_eval_samples is not None:
            # they would mix the tasks, whose places in the splits tell them apart
            raise UserError("a sequence is not altered as a whole; name `altered` within its tasks", "task_sequence")
        for task in self.tasks:
            task.setup()
        self._take_facts()  # those of a table are known only now
        splits = {}
        for name in ("train", "val", "test"):
            parts = [task.split(name) for task in self.tasks]
            count = min(len(inputs) for inputs, _ in parts)
            inputs, targets = (torch.cat([part[side][:count] for part in parts]) for side in (0, 1))
            splits[name] = inputs, targets
        return splits

    @property
    def validation_tasks(self) -> int:
        """How many tasks :meth:`task_dataloader` can validate alone; trainoff's modules log a metric of each."""
        return len(self.tasks)

    def finished_tasks(self, epoch: int) -> int:
        """How many tasks have been trained on when an epoch, counted from 0, begins."""
        return min(epoch // self.epochs, len(self.tasks) - 1)

    def task_split(self, name: str, task: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one task's ``"train"``, ``"val"`` or ``"test"``."""
        inputs, targets = self.stored(name)
        count = len(inputs) // len(self.tasks)
        return inputs[task * count : (task + 1) * count], targets[task * count : (task + 1) * count]

    def task_dataloader(self, name: str, task: int) -> TensorBatches:
        """One task's split in a fixed order."""
        return self._evaluation(self.task_split(name, task))

    def train_dataloader(self) -> TaskBatches:  # type: ignore[override]
        """The training split of the task whose turn it is, in batches of ``batch_size``."""
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        options = {"shuffle": shuffle, "seed": self._order_seed, "replacement": self.replacement and shuffle}
        options |= {"microbatches": self.microbatches, "equal_shares": True}
        loaders = [
            self._batches(self.task_split("train", task), self.batch_size, **options)
            for task in range(len(self.tasks))
        ]
        return TaskBatches(loaders, self.epochs)

    def train_eval_dataloader(self) -> TensorBatches:
        """A fixed part of the tasks' training splits, of each as many as its test split has."""
        count = len(self.task_split("test", 0)[0])
        parts = [self.task_split("train", task) for task in range(len(self.tasks))]
        return self._evaluation((torch.cat([p[0][:count] for p in parts]), torch.cat([p[1][:count] for p in parts])))

    def order_digest(self) -> str:
        """SHA-256 of the indices in the order of the first training epoch."""
        order = epoch_order(len(self.task_split("train", 0)[0]), self._order_seed, 0, self.replacement)
        return hashlib.sha256(order.numpy().data).hexdigest()


class TaskBatches:
    """The batches of the task whose turn it is; for the Trainer, which sets the epoch, it is one loader.

    Args:
        loaders: Of equally many batches, one a task.
        epochs: Of each task.
    """

    def __init__(self, loaders: Sequence[TensorBatches], epochs: int) -> None:
        self.loaders, self.epochs = list(loaders), epochs
        self.epoch = 0

    @property
    def present(self) -> TensorBatches:
        """The loader of the epoch's task."""
        return self.loaders[min(self.epoch // self.epochs, len(self.loaders) - 1)]

    @property
    def batch_size(self) -> int:
        """Samples in a batch on this rank."""
        return self.present.batch_size

    @property
    def sampler(self) -> Any:
        """Itself where it shuffles: Lightning calls ``dataloader.sampler.set_epoch(epoch)`` before each epoch."""
        return self if self.present.shuffle or self.present.replacement else self.present.sampler

    @property
    def batch_sampler(self) -> TaskBatches:
        """Itself: Lightning reads its ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and with it the task."""
        self.epoch = epoch
        self.present.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is."""
        return self.present.state_dict() | {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the epoch's task go on there."""
        self.loaders[min(state_dict["epoch"] // self.epochs, len(self.loaders) - 1)].load_state_dict(state_dict)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self.present)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """The batches; a generator, as the epoch may be set after this call."""
        yield from self.present


def build_task(choice: str | dict[str, Any], where: str) -> Any:
    """A task's DataModule: one that holds its set in memory, or such a one altered.

    Raises:
        UserError: For an unknown name or argument, or another kind of DataModule.
    """
    from trainoff.datamodules.altered import Altered

    data = build_datamodule(choice, where)
    if not isinstance(data, (InMemoryDataModule, Altered)):
        raise UserError(f"{type(data).__name__} does not hold its set in memory, which is needed here", where)
    if hasattr(data, "finished_tasks"):
        raise UserError("is a sequence itself; list its tasks instead", where)
    return data
