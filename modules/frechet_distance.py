"""The Fréchet distance between two sets of features, as if each were a Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> Tensor:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½): the square of two Gaussians' distance (Dowson & Landau 1982).

    Tr (Σ₁Σ₂)^½ is the sum of the square roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric.

    Args:
        mean1: (features,), float64.
        covariance1: (features, features).
        mean2: (features,).
        covariance2: (features, features).
    """
    values, vectors = torch.linalg.eigh(covariance1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0).sqrt().sum()
    squared: Tensor = torch.square(mean1 - mean2).sum() + covariance1.trace() + covariance2.trace() - 2 * cross
    return squared.clamp(min=0)


class FrechetDistance(Metric):
    """The Fréchet distance between the features of real images and those of generated ones, in float64.

    Sums and outer products are added up, so that the result is one over all batches and processes.

    Args:
        features: Length of a feature vector.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    real_sum: Tensor
    fake_sum: Tensor
    real_products: Tensor
    fake_products: Tensor
    real_count: Tensor
    fake_count: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        for kind in ("real", "fake"):
            self.add_state(f"{kind}_sum", torch.zeros(features, dtype=torch.float64), "sum")
            self.add_state(f"{kind}_products", torch.zeros(features, features, dtype=torch.float64), "sum")
            self.add_state(f"{kind}_count", torch.tensor(0), "sum")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add the features of real and of generated images, each (images, features)."""
        real, fake = real.double(), fake.double()
        self.real_sum += real.sum(0)
        self.fake_sum += fake.sum(0)
        self.real_products += real.T @ real
        self.fake_products += fake.T @ fake
        self.real_count += len(real)
        self.fake_count += len(fake)

    def compute(self) -> Tensor:
        """The distance; not a number with less than two images on a side, which have no covariance."""
        if min(int(self.real_count), int(self.fake_count)) < 2:
            return torch.tensor(torch.nan, dtype=torch.float64, device=self.real_sum.device)
        real = _moments(self.real_sum, self.real_products, self.real_count)
        fake = _moments(self.fake_sum, self.fake_products, self.fake_count)
        return frechet_distance(*real, *fake)

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Module:
        """Follow the module to its device, but stay in float64 whatever its precision."""
        super()._apply(fn, *args, **kwargs)
        for name, default in self._defaults.items():
            if not name.endswith("count"):
                setattr(self, name, getattr(self, name).double())
                self._defaults[name] = cast(Tensor, default).double()
        return self


def _moments(total: Tensor, products: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    mean = total / count
    return mean, (products - count * torch.outer(mean, mean)) / (count - 1)
