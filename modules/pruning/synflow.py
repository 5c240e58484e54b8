"""SynFlow: prunes before training by the paths through each weight, without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainoff.errors import UserError
from trainoff.modules.pruning.base import Pruning, check_share
from trainoff.modules.pruning.criteria import Scope, check_scope, keep_highest


def synaptic_flow(module: nn.Module, shape: Sequence[int], names: Sequence[str]) -> dict[str, Tensor]:
    """|∂R/∂θ ⊙ θ| with R = 1ᵀ f(1; |θ|): the flow through each weight, where input and weights are positive.

    In double precision and eval mode, where every weight and every number of the state is replaced by its absolute
    value (Tanaka et al. 2020, equation 2). For nets of affine layers and ReLU the flow into a hidden unit equals that
    out of it, and each layer's sum is R.

    Args:
        module: With a ``forward`` of one tensor to one tensor.
        shape: Of one sample.
        names: Of the weights that are scored.

    Returns:
        By name, the weights' shapes.
    """
    state = {
        name: value.detach().double().abs() if value.is_floating_point() else value
        for name, value in [*module.named_parameters(), *module.named_buffers()]
    }
    weights = [state[name].requires_grad_() for name in names]
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.enable_grad():
            ones = torch.ones(1, *shape, dtype=torch.float64, device=weights[0].device)
            flow = functional_call(module, state, (ones,)).sum()
            gradients = torch.autograd.grad(flow, weights, allow_unused=True)
    finally:
        for part, mode in modes:
            part.training = mode
    return {
        name: torch.zeros_like(weight).detach() if gradient is None else (gradient * weight).detach().abs()
        for name, weight, gradient in zip(names, weights, gradients, strict=True)
    }


class SynFlow(Pruning):
    """Prunes in many rounds, before the first step, the weights with the least synaptic flow (Tanaka et al. 2020).

    After round k of n a share (1 − s)^(k/n) of the weights is left (algorithm 1). No data are needed, only the shape
    of a sample: the module's ``example_input_array``, its ``input_shape``, or that of a training batch.

    Args:
        sparsity: s, share that is pruned, in [0, 1).
        rounds: n, from 1.
        scope: ``global`` ranks all layers together, as the paper does; ``local`` each by itself.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For numbers out of range, or an unknown scope.
    """

    needs_total: ClassVar[bool] = False

    def __init__(
        self, sparsity: float = 0.8, rounds: int = 100, scope: Scope = "global", exclude: Sequence[str] = ()
    ) -> None:
        super().__init__(exclude)
        if rounds < 1:
            raise UserError(f"there is at least one round, not {rounds}", "rounds")
        self.sparsity = check_share(sparsity, "sparsity")
        self.rounds = rounds
        self.scope = check_scope(scope)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a module that cannot be run by itself.

        Raises:
            UserError: Where it has no ``forward``.
        """
        if type(pl_module).forward is L.LightningModule.forward:
            raise UserError(f"synflow runs the net alone, and {type(pl_module).__name__} has no forward", "pruning")

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Nothing: all is done before the first one."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prune, where it has not been done; the first hook that a rehearsal of the training does not reach.

        Raises:
            UserError: Where the net takes no tensor of numbers, or some weights' flow is not finite.
        """
        if self.is_done:
            return
        shape = sample_shape(trainer, pl_module)
        before = {name: weight.detach().clone() for name, weight in self._weights.items()}
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in before.items()}
        for number in range(1, self.rounds + 1):
            scores = self._scores(pl_module, shape)
            share = 1 - (1 - self.sparsity) ** (number / self.rounds)
            masks = keep_highest(scores, share, self.scope, masks)
            for name, weight in self._weights.items():
                weight.data.copy_(before[name] * masks[name])
        self.set_masks(trainer, masks)
        self.is_done = True

    def _scores(self, module: nn.Module, shape: Sequence[int]) -> Mapping[str, Tensor]:
        try:
            scores = synaptic_flow(module, shape, list(self._weights))
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"synflow runs the net on a tensor of ones, which raised: {reason}", "pruning") from error
        if not all(bool(score.isfinite().all()) for score in scores.values()):
            raise UserError("the synaptic flow is not finite: the net is too deep for it", "pruning")
        return scores


def sample_shape(trainer: L.Trainer, module: L.LightningModule) -> tuple[int, ...]:
    """The shape of one sample's inputs.

    Raises:
        UserError: Where neither the module nor a batch tells it.
    """
    example: Any = module.example_input_array
    if isinstance(example, Tensor):
        return tuple(example.shape[1:])
    known = module.hparams.get("input_shape")
    if known is not None:
        return tuple(known)
    with torch.random.fork_rng():  # a loader's order is not to depend on this look at it
        batch = next(iter(trainer.train_dataloader or ()), None)
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise UserError("synflow needs inputs that are a tensor of numbers; set example_input_array", "pruning")
    return tuple(inputs.shape[1:])
