"""The memory of a training step, from torch's MemTracker around Lightning's own loop on fake tensors."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed._tools.mod_tracker import ModTracker
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves, tree_map_only

from trainoff.benchmarks.meters.flops import FlopMeter
from trainoff.benchmarks.planning.fake_tensors import FusedAttention, fake_tensors
from trainoff.benchmarks.quiet import quiet
from trainoff.modules.recipe import Recipe

_STEPS = 2  # in the second one the optimizer's state of the first is there
_STEPS_OF_EPOCH, _EPOCHS = 1000, 10  # what schedules and pruning methods are told
Kernels = Literal["cpu", "gpu"]
Shard = Callable[[L.LightningModule], nn.Module]


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on one device.

    Args:
        parameters: Those that are kept there, and buffers.
        gradients: Between the backward pass and the optimizer's step.
        optimizer_state: After a step.
        copies: What else stays from step to step: averages, teachers, the best state so far.
        activations: What the forward pass keeps for the backward pass.
        peak: The most at one time within a step, temporaries included.
        parameter_count: Trainable ones, of the whole net.
        flops_per_sample: Forward and backward, matrix products, convolutions and attention; 0 where sharded.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    copies: int
    activations: int
    peak: int
    parameter_count: int
    flops_per_sample: int


class _Totals:
    """What both trackers have in common here: sums for the device, none for each module."""

    _curr_mem_snap: dict[torch.device, dict[Any, int]]
    _peak_mem: dict[torch.device, int]
    _in_opt: bool
    _ref_class: Any

    def _update_peak_stats(self, peak_state: Any) -> None:
        """Torch's own looks at every module at every operation, which takes most of the time."""
        for device, kinds in self._curr_mem_snap.items():
            self._peak_mem[device] = max(self._peak_mem.get(device, 0), kinds["Total"])

    def _track_optimizer_states(self, kind: Any, optimizer: Any) -> None:
        """Torch's own takes every optimizer's state to be tensors by name."""
        for leaf in tree_leaves(dict(optimizer.state)):
            if isinstance(leaf, Tensor):
                self._update_and_maybe_create_winfos(leaf, self._ref_class.OPT)  # type: ignore[attr-defined]

    def total(self) -> int:
        """Bytes at this moment."""
        return sum(kinds["Total"] for kinds in self._curr_mem_snap.values())

    def of(self, *words: str) -> int:
        """Bytes at this moment of the kinds with these names."""
        return sum(
            size
            for kinds in self._curr_mem_snap.values()
            for kind, size in kinds.items()
            if getattr(kind, "value", "") in words
        )

    def peak(self) -> int:
        """The most bytes at one time."""
        return sum(self._peak_mem.values())

    def set_in_optimizer(self, is_in: bool) -> None:
        """Lightning runs forward and backward passes inside the optimizer's step: what is made there is not its."""
        self._in_opt = is_in


class _NoModules(ModTracker):
    """Follows no module: torch's hooks fail on gradients of gradients, and cost half of the time.

    What they would tell is whose memory it is; parameters and gradients are found without them.
    """

    def __enter__(self) -> _NoModules:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class _Tracker(_Totals, MemTracker):
    """Of modules that are whole on the device."""

    def __init__(self) -> None:
        super().__init__()
        self._mod_tracker = _NoModules()  # type: ignore[no-untyped-call]


class _ShardedTracker(_Totals, FSDPMemTracker):
    """Of FSDP2's."""

    def _instrument_optimizer(self) -> None:
        """Lightning builds the optimizer after the tracker has begun: whichever takes a step."""
        self._register_global_optimizer_hook()


class _FakeDevice(SingleDeviceStrategy):
    """A device that needs no transfers; tells the tracker where the optimizer's step is not the optimizer's.

    Args:
        tracker: Of whole modules; it has begun.
    """

    def __init__(self, tracker: _Tracker | _ShardedTracker) -> None:
        super().__init__(torch.device("cpu"))
        self.tracker = tracker

    def model_to_device(self) -> None:
        """Nothing."""

    def teardown(self) -> None:
        """Nothing: Lightning would move the module back."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The module's."""
        self.tracker.set_in_optimizer(False)
        return super().training_step(*args, **kwargs)


class _OneOfMany(_FakeDevice):
    """One of the devices that a net is sharded over.

    Args:
        shard: Shards a LightningModule's net and returns it.
        stack: In which the tracker begins, when there is a sharded net to track.
    """

    def __init__(self, shard: Shard, stack: contextlib.ExitStack) -> None:
        super().__init__(_Tracker())  # which never begins
        self.shard = shard
        self.stack = stack

    def model_to_device(self) -> None:
        """Shard, as Lightning's ModelParallelStrategy does before the optimizers are built."""
        assert self.lightning_module is not None
        self.tracker = _ShardedTracker(self.shard(self.lightning_module))
        self.stack.enter_context(self.tracker)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The module's."""
        self.tracker.reset_mod_stats()  # which FSDP2's wants before each forward pass
        return super().training_step(*args, **kwargs)


class _Over(Exception):
    """Enough steps were tracked."""


class _Batches:
    """Batches of the shapes and types of those given, new ones each time, as a loader's are.

    Args:
        batches: Of one step: its micro-batches.
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches) * _STEPS_OF_EPOCH

    def __iter__(self) -> Iterator[Any]:
        for _ in range(_STEPS):
            for batch in self.batches:
                yield tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype), batch)


class _Replay(L.LightningDataModule):
    """A DataModule's facts with other batches.

    Args:
        source: Whatever has the facts: ``input_shape``, ``output_size`` and the like.
        batches: Of one step.
    """

    def __init__(self, source: Any, batches: Sequence[Any]) -> None:
        super().__init__()
        self.source = source
        self.batches = batches
        self.batch_size = self.microbatches = 1  # a recipe may set them

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("source", "split"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def train_dataloader(self) -> _Batches:
        return _Batches(self.batches)


class _Watch(L.Callback):
    """Reads the tracker at the moments that matter.

    Args:
        strategy: Has the tracker.
        batches: Of one step.
        keeps_best: Whether the best state so far is kept beside the present one, as a suite's trials do.
    """

    def __init__(self, strategy: _FakeDevice, batches: int, keeps_best: bool) -> None:
        self.strategy = strategy
        self.batches_of_step = batches
        self.batches = batches * _STEPS  # to come
        self.keeps_best = keeps_best
        self.best: list[Tensor] = []
        self.parameter_count = self.before_forward = self.gradients = self.activations = self.standing = 0

    @property
    def tracker(self) -> _Tracker | _ShardedTracker:
        """That has begun."""
        return self.strategy.tracker

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What was needed to build the net is not a step's."""
        self.parameter_count = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        if self.keeps_best:
            self.best = [_local(tensor).detach().clone() for tensor in pl_module.state_dict().values()]
        if isinstance(self.tracker, _Tracker):
            self.tracker.track_external(pl_module, *trainer.optimizers)
        self.tracker._peak_mem.clear()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The activations of this batch come on top of what is there."""
        if isinstance(self.tracker, _ShardedTracker) and self.batches == self.batches_of_step:
            # In the steps before, torch found out how operations are sharded, on fake tensors of the whole size.
            self.tracker._peak_mem.clear()
        self.before_forward = self.tracker.of("Activation")

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """The forward pass is over."""
        self.activations = max(self.activations, self.tracker.of("Activation") - self.before_forward)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """The backward pass is over."""
        self.gradients = max(self.gradients, sum(_bytes(p.grad) for p in pl_module.parameters() if p.grad is not None))
        self.tracker.set_in_optimizer(True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """What stays from step to step: all but this batch and the gradients."""
        gradients = sum(_bytes(p.grad) for p in pl_module.parameters() if p.grad is not None)
        present = sum(_bytes(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
        self.standing = self.tracker.total() - gradients - present
        self.batches -= 1
        if not self.batches:
            raise _Over


def track_step(
    build: Callable[[], L.LightningModule],
    recipe: Recipe,
    batches: Sequence[Any],
    facts: Any = None,
    shard: Shard | None = None,
    keeps_best: bool = False,
    kernels: Kernels = "cpu",
) -> StepMemory:
    """Train two steps on fake tensors and say what they took.

    Args:
        build: Makes the LightningModule, trained by ``recipe``.
        recipe: Without a strategy: this is one process.
        batches: One step's: as many as the recipe has micro-batches, of one device's samples. Only shapes and types
            count.
        facts: What the module takes from a DataModule: ``input_shape``, ``output_size`` and the like.
        shard: Shards the module's net by FSDP2, on a process group that exists, and returns it.
        keeps_best: Whether the best state so far is kept on the device.
        kernels: Those of a GPU attend without keeping the weights of attention, with dropout too.

    Returns:
        Bytes on one device.

    Raises:
        UserError: For a mistake that shows when the training begins.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(fake_tensors())
        if kernels == "gpu":
            stack.enter_context(FusedAttention())
        stack.enter_context(quiet())
        module = build()
        strategy = _FakeDevice(_Tracker()) if shard is None else _OneOfMany(shard, stack)
        if shard is None:
            stack.enter_context(strategy.tracker)
        watch, flops = _Watch(strategy, len(batches), keeps_best), FlopMeter()
        trainer = L.Trainer(
            max_epochs=_EPOCHS,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[watch] if shard else [flops, watch],  # of sharded tensors it would count the whole
            **recipe.trainer_arguments(),
        )
        with contextlib.suppress(_Over):
            trainer.fit(module, datamodule=_Replay(facts, batches))
        state = sum(_bytes(leaf) for optimizer in trainer.optimizers for leaf in _state_leaves(optimizer))
    parameters = sum(_bytes(p) for p in [*module.parameters(), *module.buffers()])
    return StepMemory(
        parameters=parameters,
        gradients=watch.gradients,
        optimizer_state=state,
        copies=max(0, watch.standing - parameters - state),
        activations=watch.activations,
        peak=strategy.tracker.peak(),
        parameter_count=watch.parameter_count,
        flops_per_sample=flops.flops_per_sample or 0,
    )


def _state_leaves(optimizer: Any) -> list[Tensor]:
    """The tensors of an optimizer's state, each once."""
    leaves = tree_leaves(dict(optimizer.state))
    return list({id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}.values())


def _local(tensor: Tensor) -> Tensor:
    """This device's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _bytes(tensor: Tensor) -> int:
    local = _local(tensor)
    return local.numel() * local.element_size()
