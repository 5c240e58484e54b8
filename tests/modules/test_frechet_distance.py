"""The Fréchet distance against closed forms, SciPy and torchmetrics; the features that it is taken in."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from users_project import make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import GAN
from trainoff.modules.frechet_distance import FrechetDistance, frechet_distance
from trainoff.modules.image_features import ImageFeatures, labelled_images, train_features

TINY = {"name": "dcgan", "width": 4, "latent": 4}


def covariance(size: int, rank: int, seed: int) -> Tensor:
    factor = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T / rank


def vector(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 8), seed=st.integers(0, 1000))
def test_diagonal_gaussians_have_a_closed_form(size: int, seed: int) -> None:
    """Σ (μ₁ − μ₂)² + (σ₁ − σ₂)² over the dimensions."""
    s1, s2 = vector(size, seed).abs(), vector(size, seed + 1).abs()
    m1, m2 = vector(size, seed + 2), vector(size, seed + 3)
    expected = ((m1 - m2) ** 2 + (s1 - s2) ** 2).sum()
    torch.testing.assert_close(frechet_distance(m1, (s1**2).diag(), m2, (s2**2).diag()), expected)


@pytest.mark.parametrize("rank", [3, 20])
def test_it_is_scipy_s_matrix_root(rank: int) -> None:
    """Of rank 3 among 8 too, where there are fewer images than features."""
    linalg = pytest.importorskip("scipy.linalg")
    c1, c2 = covariance(8, rank, 0), covariance(8, rank, 1)
    m1, m2 = vector(8, 2), vector(8, 3)
    root = np.real(linalg.sqrtm((c1 @ c2).numpy()))
    expected = float(((m1 - m2) ** 2).sum() + c1.trace() + c2.trace()) - 2 * np.trace(root)
    assert float(frechet_distance(m1, c1, m2, c2)) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(1, 6))
def test_it_is_a_distance(seed: int, size: int) -> None:
    one = vector(size, seed), covariance(size, 2 * size, seed)
    two = vector(size, seed + 1), covariance(size, 2 * size, seed + 1)
    assert float(frechet_distance(*one, *one)) == pytest.approx(0, abs=1e-9)
    there, back = frechet_distance(*one, *two), frechet_distance(*two, *one)
    torch.testing.assert_close(there, back)
    assert float(there) > 0


def test_the_metric_is_torchmetrics_in_any_cut() -> None:
    """Their FID's own formula, on moments from NumPy."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 5, generator=generator) + 1
    fake = torch.randn(150, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    metric = FrechetDistance(5)
    for cut in range(10):
        metric.update(real[20 * cut : 20 * (cut + 1)], fake[15 * cut : 15 * (cut + 1)])
    moments = [
        (torch.from_numpy(np.mean(x, 0)), torch.from_numpy(np.cov(x, rowvar=False)))
        for x in (real.double().numpy(), fake.double().numpy())
    ]
    expected = fid._compute_fid(*moments[0], *moments[1])
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-8, atol=1e-8)


def test_one_image_has_no_distance() -> None:
    metric = FrechetDistance(3)
    metric.update(torch.ones(1, 3), torch.ones(2, 3))
    assert metric.compute().isnan()


# The features


def data_of_digits() -> tuple[Tensor, Tensor]:
    data = Digits()
    data.setup("fit")
    return data.split("train")


def test_the_classifier_learns_the_digits_in_seconds() -> None:
    images, labels = data_of_digits()
    features = ImageFeatures((1, 8, 8), 10)
    assert not features.is_trained
    train_features(features, images[:360], labels[:360])
    assert features.is_trained
    assert not any(p.requires_grad for p in features.parameters())
    accuracy = (features.classify(images[360:]).argmax(1) == labels[360:]).float().mean()
    assert accuracy > 0.9
    assert features(images[:5]).shape == (5, 32)


def test_the_classifier_does_not_depend_on_order_or_seed() -> None:
    images, labels = data_of_digits()
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        features = ImageFeatures((1, 8, 8), 10)
        train_features(features, images[:300][order], labels[:300][order])
        assert torch.equal(torch.get_rng_state(), before)
        states.append(torch.cat([p.flatten() for p in features.parameters()]))
    assert torch.equal(*states)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48)])
def test_features_of_any_image(shape: tuple[int, ...]) -> None:
    assert ImageFeatures(shape, 4)(torch.randn(2, *shape)).shape == (2, 32)


def test_data_without_classes_are_refused_in_one_line() -> None:
    sizes: dict[str, Any] = {"input_shape": (1, 8, 8), "pixel_range": (-1, 1)}
    images = DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4).long()))
    with pytest.raises(UserError, match="needs images with class numbers"):
        make_trainer().validate(GAN(TINY, **sizes), dataloaders=images)
    with pytest.raises(UserError, match="give the Trainer a DataModule"):
        make_trainer().validate(GAN(TINY, num_classes=10, **sizes), dataloaders=images)


def test_a_users_loader_gives_labelled_images() -> None:
    """In batches that Lightning's hooks have seen; the range of the pixels is found in them too."""

    class Brightened(L.LightningDataModule):
        num_classes = 10

        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(*data_of_digits()), batch_size=50, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(TensorDataset(*data_of_digits()), batch_size=50)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] + 7, batch[1]

    module = GAN(TINY, input_shape=(1, 8, 8))
    trainer = make_trainer(limit_train_batches=1)
    trainer.fit(module, datamodule=Brightened())
    images, labels = labelled_images(trainer, module)
    expected, classes = data_of_digits()
    assert module.hparams["pixel_range"] == pytest.approx([float(expected.min()) + 7, float(expected.max()) + 7])
    assert sorted(labels.tolist()) == sorted(classes.tolist())
    torch.testing.assert_close(images.flatten().sort().values, expected.flatten().sort().values + 7)
    assert torch.isfinite(trainer.callback_metrics["val/frechet_distance"])
