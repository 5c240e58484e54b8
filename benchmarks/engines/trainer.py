"""One trial, trained by a real ``lightning.Trainer`` that is set up lean."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from trainoff.benchmarks.checkpoint_interval import CheckpointPlace
from trainoff.benchmarks.engines.evaluation import evaluate, refuse_missing_test
from trainoff.benchmarks.engines.rank_side import recipe_of_rank, replicas, share_batches
from trainoff.benchmarks.engines.trial_checkpoints import TrialCheckpoints
from trainoff.benchmarks.environment import describe
from trainoff.benchmarks.meters.bytes import checkpoint_bytes, tensor_bytes
from trainoff.benchmarks.meters.compression import CompressionMeter
from trainoff.benchmarks.meters.curves import CurveMeter
from trainoff.benchmarks.meters.flops import FlopMeter
from trainoff.benchmarks.meters.group import MeterGroup
from trainoff.benchmarks.meters.latency import LatencyMeter
from trainoff.benchmarks.meters.memory import peak_bytes, reset_peak
from trainoff.benchmarks.meters.stability import ConvergenceStop, Diverged, DivergenceGuard, count_spikes
from trainoff.benchmarks.meters.time import TimeMeter
from trainoff.benchmarks.quiet import quiet
from trainoff.benchmarks.randomness import DerivedGenerators, seed_everything
from trainoff.benchmarks.record import (
    Compression,
    Cost,
    Environment,
    Failure,
    Overfitting,
    Quality,
    Record,
    Scores,
    Splits,
    Stability,
    Status,
)
from trainoff.benchmarks.task_building import build_datamodule, build_module
from trainoff.benchmarks.tracking import CurveSpool
from trainoff.benchmarks.trial import Trial
from trainoff.errors import UserError
from trainoff.modules.checkpoint_io import AtomicCheckpointIO
from trainoff.modules.pruning.base import pruning_of
from trainoff.modules.recipe import Recipe
from trainoff.modules.strategy_requirements import keeps_parameters_whole
from trainoff.seeds import derive_seed


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a worker cannot know of itself.

    Args:
        trials_beside: How many other trials may run at the same time.
        git: State of the working directory that the run was started from.
        checkpoint: Where the trial keeps its checkpoint, and how often; None for none.
        spool: File that takes the epochs' values while it trains; empty for none.
    """

    trials_beside: int = 0
    git: str = ""
    checkpoint: CheckpointPlace | None = None
    spool: str = ""


class _Training:
    """One trial's objects, so that a failed one still leaves what it measured.

    Args:
        trial: What is trained.
        accelerator: Lightning's name.
        last: Callbacks that come after the meters.
        checkpoint: Where the trial keeps its checkpoint, and how often.
    """

    def __init__(
        self,
        trial: Trial,
        accelerator: str = "auto",
        last: Sequence[L.Callback] = (),
        checkpoint: CheckpointPlace | None = None,
    ) -> None:
        self.trial = trial
        self.accelerator = accelerator
        self.last = last
        self.started = time.perf_counter()
        self.clock = TimeMeter(trial.task.budget.seconds)
        self.curves = CurveMeter(trial.task, self.clock)
        self.compression_meter = CompressionMeter(trial.task.metric)
        self.compression: Compression | None = None
        self.guard = DivergenceGuard()
        self.flops = FlopMeter()
        self.latency = LatencyMeter()
        self.generators = DerivedGenerators(trial.seed)
        # Sharded ones would be folders, which nothing writes whole or not at all.
        keeps_them = checkpoint is not None and keeps_parameters_whole(trial.setting.get("strategy"))
        self.checkpoints = TrialCheckpoints(checkpoint) if checkpoint is not None and keeps_them else None
        self.order_digest = ""
        self.trainer: L.Trainer | None = None
        self.module: L.LightningModule | None = None
        self.quality = Quality(trial.task.metric, trial.task.mode)

    def run(self) -> None:
        """Train, then evaluate the best and the last state."""
        seed_everything(self.trial.seed)
        datamodule = build_datamodule(self.trial.task.data)
        trainer, module = self.prepare(datamodule)
        reset_peak(trainer.strategy.root_device)
        path = None if self.checkpoints is None else self.checkpoints.to_resume_from
        trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
        if hasattr(datamodule, "order_digest"):
            self.order_digest = datamodule.order_digest()
        self._evaluate(datamodule)

    def prepare(self, datamodule: L.LightningDataModule) -> tuple[L.Trainer, L.LightningModule]:
        """Make what trains, and what is trained."""
        recipe = recipe_of_rank(self.trial.setting)
        # A foreign module draws its weights where it is built: from a seed of their own.
        seed_everything(derive_seed(self.trial.seed, "weights"))
        self.module = build_module(self.trial.task.module, recipe)
        seed_everything(self.trial.seed)
        refuse_missing_test(self.module, datamodule)
        self.trainer = self._make_trainer(recipe)
        if self.trainer.world_size > 1 and not torch.distributed.is_torchelastic_launched():
            # Lightning would run this process' own program again.
            raise UserError("several devices need as many processes, which a run's workers start", "strategy")
        share_batches(datamodule, self.trainer, self.module)
        return self.trainer, self.module

    def _make_trainer(self, recipe: Recipe) -> L.Trainer:
        budget = self.trial.task.budget
        meters: list[L.Callback] = [self.generators, self.flops, self.latency, self.guard, self.clock, self.curves]
        meters.append(self.compression_meter)
        if budget.gradient_norm is not None:
            meters.append(ConvergenceStop(budget.gradient_norm))
        arguments: dict[str, Any] = {"devices": 1} | recipe.trainer_arguments()
        checkpoints = [] if self.checkpoints is None else [self.checkpoints]
        if checkpoints:
            arguments["plugins"] = [AtomicCheckpointIO()]
        return L.Trainer(
            max_epochs=-1 if budget.epochs is None else budget.epochs,
            max_steps=-1 if budget.steps is None else budget.steps,
            logger=False,
            enable_checkpointing=bool(checkpoints),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            accelerator=self.accelerator,
            callbacks=[MeterGroup(meters), *self.last, *checkpoints],
            **arguments,
        )

    def _evaluate(self, datamodule: L.LightningDataModule) -> None:
        assert self.trainer is not None
        assert self.module is not None
        curves, quality, step = self.curves.curves, self.quality, self.trainer.global_step
        arguments = (self.trainer, self.module, datamodule, self.trial.task)
        pruning = pruning_of(self.module)
        is_known = pruning is None or pruning.in_training  # else validation in training was of another net
        if curves.steps and curves.steps[-1] == step:
            known = Scores(curves.val_metric[-1], curves.val_loss[-1]) if is_known else None
            quality.last = evaluate(*arguments, known)
        else:  # a budget of steps may end within an epoch, where Lightning does not validate
            quality.last = evaluate(*arguments, None)
            self.curves.add_validation(quality.last.val, step, self.module)
        best = quality.best_epoch = self.curves.best_epoch
        if best == len(curves.val_metric):
            quality.best = quality.last
        elif best is not None and self.curves.best_state is not None:
            known = Scores(curves.val_metric[best - 1], curves.val_loss[best - 1]) if is_known else None
            with _state(self.module, self.curves.best_state):
                quality.best = evaluate(*arguments, known)
        if pruning is not None:
            with _state(self.module, self.curves.best_state or self.module.state_dict()):
                self.compression = self.compression_meter.measure(self.module, datamodule, quality, curves.val_metric)

    def cost(self) -> Cost:
        """What it cost so far."""
        earlier = 0.0 if self.checkpoints is None else self.checkpoints.earlier_seconds
        cost = Cost(
            train_seconds=self.clock.elapsed(),
            wall_seconds=earlier + time.perf_counter() - self.started,
            samples_per_second=self.clock.throughput(),
            step_seconds_p50=self.clock.quantile(0.5),
            step_seconds_p95=self.clock.quantile(0.95),
            flops_per_sample=self.flops.flops_per_sample,
            latency_seconds=self.latency.latency_seconds,
        )
        if self.curves.to_target is not None:
            cost.seconds_to_target, cost.steps_to_target, cost.epochs_to_target = self.curves.to_target
        if self.trainer is not None and self.module is not None:
            if cost.samples_per_second is not None:
                cost.samples_per_second *= replicas(self.trainer)
            cost.steps = self.trainer.global_step
            cost.epochs = len(self.curves.curves.train_loss)
            cost.peak_memory_bytes = peak_bytes(self.trainer.strategy.root_device)
            cost.parameters = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
            cost.optimizer_state_bytes = sum(tensor_bytes(optimizer.state) for optimizer in self.trainer.optimizers)
        return cost


def train(trial: Trial, surroundings: Surroundings) -> Record:
    """Train one trial and say how it went.

    Args:
        trial: What to train.
        surroundings: What goes into the record's environment.

    Returns:
        Its record: ``ok``, or one of the failures, with all that was measured until then.

    Raises:
        UserError: For a mistake that the user can mend; no record comes of it.
    """
    training = _Training(trial, checkpoint=surroundings.checkpoint)
    if surroundings.spool:
        training.last = [CurveSpool(surroundings.spool, training.curves.curves)]
    status: Status = "ok"
    failure: Failure | None = None
    try:
        with quiet():
            training.run()
    except UserError:
        raise
    except Exception as error:
        status = _status_of(error)
        failure = Failure(type(error).__name__, _one_line(error), traceback.format_exc())
    if status == "ok" and training.trainer is not None:
        cost = training.cost()
        cost.checkpoint_bytes = checkpoint_bytes(training.trainer)
    else:
        cost = training.cost()
    curves = training.curves.curves
    return Record(
        trial=trial.facts(training.generators.initial_state_digest, training.order_digest),
        status=status,
        error=failure,
        environment=_environment(training, surroundings),
        quality=training.quality,
        overfitting=_overfitting(training) if status == "ok" else Overfitting(),
        cost=cost,
        stability=Stability(training.guard.last_finite_step, count_spikes(curves.train_loss)),
        curves=curves,
        compression=training.compression,
    )


def begin(trial: Trial, datamodule: L.LightningDataModule, end: L.Callback) -> None:
    """Go a trial's way on the CPU, in one process, until a callback ends it by an exception.

    Args:
        trial: What would be trained, on one device.
        datamodule: The task's.
        end: Comes after the meters, before the recipe's callbacks.

    Raises:
        UserError: For a mistake that the user can mend; and whatever else is raised on the way.
    """
    with quiet():
        trainer, module = _Training(trial, "cpu", [end]).prepare(datamodule)
        trainer.fit(module, datamodule=datamodule)


@contextlib.contextmanager
def _state(module: L.LightningModule, state: dict[str, Tensor]) -> Iterator[None]:
    """The module with another state for a while."""
    present = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    module.load_state_dict(state)
    try:
        yield
    finally:
        module.load_state_dict(present)


def _status_of(error: Exception) -> Status:
    if isinstance(error, Diverged):
        return "diverged"
    # On a CPU the allocator raises a plain RuntimeError; its message is all there is to tell it by.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    if on_cpu or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "out_of_memory"
    return "crashed"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _environment(training: _Training, surroundings: Surroundings) -> Environment:
    trainer = training.trainer
    device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
    environment = describe(
        device=device.type,
        hardware=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        devices=1 if trainer is None else trainer.world_size,
        threads=torch.get_num_threads(),
        trials_beside=surroundings.trials_beside,
        git=surroundings.git,
    )
    environment.resumptions = 0 if training.checkpoints is None else training.checkpoints.resumptions
    return environment


def _overfitting(training: _Training) -> Overfitting:
    last: Splits = training.quality.last
    sign = 1 if training.trial.task.mode == "max" else -1
    losses = [(loss, epoch) for epoch, loss in enumerate(training.curves.curves.val_loss, 1) if loss is not None]
    least, onset = min(losses, default=(None, None))
    gap = Overfitting(onset_epoch=onset)
    if last.train.metric is not None and last.test.metric is not None:
        gap.gap_metric = sign * (last.train.metric - last.test.metric)
    if last.train.loss is not None and last.test.loss is not None:
        gap.gap_loss = last.test.loss - last.train.loss
    if least is not None:
        gap.val_loss_rise = losses[-1][0] - least
    return gap
