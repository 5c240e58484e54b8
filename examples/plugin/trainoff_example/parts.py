"""An optimizer, a regularizer, a net and a DataModule, each as small as it can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.modules.regularizers import Regularizer
from trainoff.seeds import derive_seed


class SignMomentum(Optimizer):
    """θ ← θ − lr · sign(m), m ← βm + (1 − β)g (Bernstein et al. 2018, signSGD, the momentum form "signum")."""

    def __init__(self, params: Iterable[Any], lr: float = 3e-3, momentum: float = 0.9) -> None:
        if lr < 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr {lr} is below 0, or momentum {momentum} outside [0, 1)")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step; Lightning computes the gradients in the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]  # saved in checkpoints, and loaded again
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                parameter.add_(state["momentum"].sign(), alpha=-group["lr"])
        return loss


class GradientNoise(Regularizer):
    """g ← g + N(0, η / (1 + t)^γ) at step t (Neelakantan et al. 2015, Adding gradient noise improves learning).

    The noise is a function of the seed and of the step, so that a resumed training draws what an uninterrupted one
    would, and nobody else's random numbers change.
    """

    def __init__(self, variance: float = 1e-3, decay: float = 0.55, seed: int = 0) -> None:
        super().__init__()
        self.variance = variance
        self.decay = decay
        self.seed = seed

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add the noise, drawn on the CPU so that a seed means the same on every device."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "gradient noise", trainer.global_step))
        deviation = math.sqrt(self.variance / (1 + trainer.global_step) ** self.decay)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    noise = torch.randn(parameter.shape, generator=generator) * deviation
                    parameter.grad.add_(noise.to(parameter.grad))


class GatedMLP(nn.Module):
    """One hidden layer, gated: W(a(x) · σ(b(x))). Inputs (batch, *input_shape), outputs (batch, output_size)."""

    def __init__(self, input_shape: Sequence[int], output_size: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(input_shape), 2 * hidden), nn.GLU(), nn.Linear(hidden, output_size)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits."""
        outputs: Tensor = self.layers(inputs)
        return outputs


class Rings(TensorDataModule):
    """600 noisy points on three rings in the plane; the class is the ring."""

    facts: ClassVar[DataModuleEntry] = DataModuleEntry(
        name="example_rings",
        target="trainoff_example.parts:Rings",
        num_samples=600,
        input_shape=(2,),
        num_classes=3,
        licence="CC0-1.0",
    )

    def raw_data(self) -> RawData:
        """Generated from a generator of its own: the global random state is neither read nor changed."""
        generator = np.random.default_rng(0)
        rings = np.arange(600) % 3
        angles = generator.uniform(0, 2 * np.pi, 600)
        radii = 1 + rings + generator.normal(0, 0.15, 600)
        points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        return RawData(points.astype(np.float32), rings)
