"""Augmentation of whole batches, against a loop over samples; and what it leaves alone."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainoff.datamodules import ImageDataModule, RawData
from trainoff.datamodules.facts.image_sets import CIFAR10 as FACTS
from trainoff.datamodules.image_augmentation import Crop, Flip, ImageTransform, build_augmentations
from trainoff.errors import UserError


class Pictures(ImageDataModule):
    """Two hundred random colour images of 8 x 6."""

    facts = FACTS

    def raw_data(self) -> RawData:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (200, 3, 8, 6)).astype(np.uint8)
        self.describe((3, 8, 6), [str(n) for n in range(10)])
        return RawData(images, np.arange(200) % 10)


BOTH = ["flip", {"name": "crop", "padding": 2}]


def pixels(count: int, channels: int = 3, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def flipped(image: Tensor) -> Tensor:
    """Pixel by pixel."""
    result = torch.empty_like(image)
    width = image.shape[2]
    for column in range(width):
        result[:, :, column] = image[:, :, width - 1 - column]
    return result


def cropped(image: Tensor, padding: int, row: int, column: int) -> Tensor:
    """Pixel by pixel: what lies outside the image is black."""
    result = torch.zeros_like(image)
    for h in range(image.shape[1]):
        for w in range(image.shape[2]):
            y, x = h + row - padding, w + column - padding
            if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                result[:, h, w] = image[:, y, x]
    return result


@given(count=st.integers(1, 9), padding=st.integers(1, 4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_whole_batches_equal_a_loop_over_samples(count: int, padding: int, seed: int) -> None:
    images, generator = pixels(count), torch.Generator().manual_seed(seed)
    flips, crop = Flip().draw(count, generator), Crop(padding)
    places = crop.draw(count, generator)
    mean, std = torch.tensor([100.0, 120.0, 90.0])[:, None, None], torch.tensor([50.0, 60.0, 70.0])[:, None, None]
    expected = []
    for image, flip, (row, column) in zip(images, flips, places.tolist(), strict=True):
        changed = cropped(flipped(image) if flip else image, padding, row, column)
        expected.append((changed.float() - mean) / std)
    batch = crop.apply(Flip().apply(images, flips), places)
    torch.testing.assert_close((batch.float() - mean) / std, torch.stack(expected))
    whole = ImageTransform(mean, std, (Flip(), crop)).for_epoch(count, seed, 3, torch.device("cpu"))
    again = ImageTransform(mean, std, (Flip(), crop)).for_epoch(count, seed, 3, torch.device("cpu"))
    targets = torch.arange(count)
    outputs, kept = whole((images, targets), 0, count)
    assert kept is targets
    assert torch.equal(outputs, again((images, targets), 0, count)[0])
    # however a batch is cut, a sample at a place of the epoch is changed alike
    parts = [again((images[n : n + 1],), n, n + 1)[0] for n in range(count)]
    torch.testing.assert_close(torch.cat(parts), outputs, rtol=0, atol=0)


@given(p=st.floats(0, 1), padding=st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_draws_are_as_likely_as_said(p: float, padding: int) -> None:
    generator = torch.Generator().manual_seed(1)
    flips = Flip(p).draw(20_000, generator).float()
    assert abs(flips.mean().item() - p) < 0.02
    places = Crop(padding).draw(20_000, generator)
    assert places.min() == 0
    assert places.max() == 2 * padding
    counts = torch.bincount(places.flatten(), minlength=2 * padding + 1).float() / 40_000
    assert (counts - 1 / (2 * padding + 1)).abs().max() < 0.02


def test_a_crop_without_a_shift_and_two_flips_change_nothing() -> None:
    images = pixels(4)
    assert torch.equal(Crop(3).apply(images, torch.full((4, 2), 3)), images)
    every = torch.ones(4, dtype=torch.bool)
    assert torch.equal(Flip().apply(Flip().apply(images, every), every), images)


def epoch(data: ImageDataModule, number: int = 0) -> list[tuple[Tensor, ...]]:
    loader = data.train_dataloader()
    loader.set_epoch(number)
    return [tuple(part.clone() for part in batch) for batch in loader]


def test_training_batches_are_augmented_and_no_others() -> None:
    plain, augmented = (Pictures(batch_size=32, augmentation=chosen) for chosen in (None, BOTH))
    for data in (plain, augmented):
        torch.manual_seed(0)
        data.setup("fit")
    assert not torch.equal(epoch(plain)[0][0], epoch(augmented)[0][0])
    assert torch.equal(epoch(plain)[0][1], epoch(augmented)[0][1])
    for name in ("train_eval_dataloader", "val_dataloader", "test_dataloader"):
        for one, other in zip(getattr(plain, name)(), getattr(augmented, name)(), strict=True):
            assert torch.equal(one[0], other[0])


def test_batches_are_normalised_by_each_channels_training_statistics() -> None:
    data = Pictures()
    data.setup("fit")
    stored = data.stored("train")[0].double()
    expected = (data.stored("test")[0].double() - stored.mean((0, 2, 3))[:, None, None]) / stored.std(
        (0, 2, 3), unbiased=False
    )[:, None, None]
    (batch,) = data.test_dataloader()
    torch.testing.assert_close(batch[0].double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(data.split("test")[0], batch[0], rtol=1e-5, atol=1e-5)


def test_the_set_and_the_global_random_state_stay_as_they_are() -> None:
    data = Pictures(batch_size=32, augmentation=BOTH)
    data.setup("fit")
    before, state = data.digest(), torch.get_rng_state()
    for batch in data.train_dataloader():
        batch[0].zero_()
    assert data.digest() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_differ_and_are_the_same_again() -> None:
    data = Pictures(batch_size=32, augmentation=BOTH)
    data.setup("fit")
    first, second = epoch(data, 0), epoch(data, 1)
    assert not torch.equal(first[0][0], second[0][0])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(epoch(data, 1), second, strict=True))


@pytest.mark.parametrize("after", [1, 3])
def test_an_epoch_that_is_resumed_has_the_same_augmented_batches(after: int) -> None:
    data = Pictures(batch_size=32, augmentation=BOTH)
    data.setup("fit")
    whole = epoch(data)
    loader = data.train_dataloader()
    iterator = iter(loader)
    for _ in range(after):
        next(iterator)
    again = data.train_dataloader()
    again.load_state_dict(loader.state_dict())
    rest = [batch[0].clone() for batch in again]
    assert len(rest) == len(whole) - after
    assert all(torch.equal(one, other[0]) for one, other in zip(rest, whole[after:], strict=True))


@pytest.mark.parametrize("microbatches", [2, 3])
def test_micro_batches_are_parts_of_the_same_augmented_batch(microbatches: int) -> None:
    data = Pictures(batch_size=32, augmentation=BOTH)
    data.setup("fit")
    whole = torch.cat([batch[0] for batch in epoch(data)])
    data.microbatches = microbatches
    assert torch.equal(torch.cat([batch[0] for batch in epoch(data)]), whole)


def test_ranks_share_the_same_augmented_batch() -> None:
    data = Pictures(batch_size=32, augmentation=BOTH)
    data.setup("fit")
    whole = epoch(data)
    shares = []
    for rank in range(2):
        loader = data._batches(data.stored("train"), 32, shuffle=True, seed=data._order_seed, equal_shares=True,
                               transform=data.batch_transform(True), rank=rank, world_size=2)  # fmt: skip
        shares.append([batch[0].clone() for batch in loader])
    for number, batch in enumerate(whole):
        both = torch.cat([shares[0][number], shares[1][number]])
        assert torch.equal(both, batch[0][: len(both)])


def test_a_trainer_gets_what_a_plain_loop_gets() -> None:
    class Seen(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.batches: list[Tensor] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.batches.append(batch[0].clone())
            return self.layer(torch.ones(1, 1)).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    data, module = Pictures(batch_size=32, augmentation=BOTH), Seen()
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0)  # fmt: skip
    trainer.fit(module, datamodule=data)
    expected = [batch[0] for number in (0, 1) for batch in epoch(data, number)]
    assert all(torch.equal(one, other) for one, other in zip(module.batches, expected, strict=True))


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (["flop"], "augmentation: 'flop' is not one of flip, crop; did you mean"),
        ([{"name": "crop", "size": 3}], "augmentation.crop: takes padding, not size"),
        ([{"name": "flip", "p": 2}], "augmentation.flip.p: 2 is not a probability"),
        ([{"name": "crop", "padding": 0}], "must be at least 1"),
        (["flip", "flip"], "each may come once"),
        ([3], "neither a name nor a mapping"),
    ],
)
def test_wrong_augmentations_are_refused_in_one_line(augmentation: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Pictures(augmentation=augmentation)
    assert message in str(caught.value)


def test_a_single_augmentation_needs_no_list() -> None:
    assert build_augmentations("flip") == (Flip(),)
    assert build_augmentations(None) == ()
