"""The diagonal of the empirical Fisher information, for anyone's LightningModule."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.data import extract_batch_size
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from trainoff.modules.regularizers.training_data import training_batches


def empirical_fisher(
    trainer: L.Trainer, module: L.LightningModule, samples: int, batches: Iterable[Any] | None = None
) -> dict[str, Tensor]:
    """F = (1/n) Σ (∇J(θ, xᵢ, yᵢ))², with J the module's training loss and yᵢ the targets in the data.

    Where J is a negative log-likelihood this is the usual estimate of the Fisher information's diagonal, with the
    data's targets where the definition draws them from the model (Kunstner, Balles & Hennig 2019 on the difference).
    The gradients are those of ``training_step`` on one sample each, in evaluation mode, taken on a copy: neither the
    module's metrics, logs and buffers, nor any random generator, nor the loader in use is touched.

    Args:
        trainer: Whose training data are used, and whose precision.
        module: At whose weights; it optimizes automatically.
        samples: n, or as many as there are.
        batches: Where to take them from; the training data by default.

    Returns:
        By parameter name, float32, on the module's device; over several processes their mean.
    """
    present = _copy_of(trainer, module)
    parameters = {name: p for name, p in present.named_parameters() if p.requires_grad}
    fisher = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    count = 0
    with torch.random.fork_rng(), torch.enable_grad():
        given = training_batches(trainer, module) if batches is None else batches
        for sample in _single_samples(trainer, given, samples):
            with trainer.precision_plugin.forward_context():
                loss = _loss(present, sample, count)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for total, gradient in zip(fisher.values(), gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient.detach().float().square())
            count += 1
    return {name: trainer.strategy.reduce(total / max(count, 1), reduce_op="mean") for name, total in fisher.items()}


def _copy_of(trainer: L.Trainer, module: L.LightningModule) -> L.LightningModule:
    callbacks = vars(module).get("recipe_callbacks")  # they may hold copies of the net, and what cannot be copied
    present = copy.deepcopy(module, {} if callbacks is None else {id(callbacks): []})
    present.trainer = trainer
    present.log = present.log_dict = _log_nothing  # type: ignore[method-assign]
    return present.eval()


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """In place of the module's own: logging is for the training."""


def _single_samples(trainer: L.Trainer, batches: Iterable[Any], samples: int) -> Iterator[Any]:
    left = samples
    for batch in batches:
        moved = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        size = extract_batch_size(moved)
        for number in range(min(size, left)):
            yield apply_to_collection(moved, Tensor, _one, number, size)
        left -= min(size, left)
        if not left:
            return


def _one(tensor: Tensor, number: int, size: int) -> Tensor:
    return tensor[number : number + 1] if tensor.ndim and len(tensor) == size else tensor


def _loss(module: L.LightningModule, sample: Any, number: int) -> Tensor:
    takes_number = len(inspect.signature(module.training_step).parameters) > 1
    output = module.training_step(sample, number) if takes_number else module.training_step(sample)
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output  # type: ignore[assignment]
    return loss
