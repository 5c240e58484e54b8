"""Augmentation of whole batches, against a loop over single samples that uses the same random numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainoff.datamodules.image_augmentation import Crop, Flip, ImageTransform, build_augmentations
from trainoff.datamodules.tensor_batches import TensorBatches, epoch_order
from trainoff.errors import UserError
from trainoff.seeds import derive_seed

MEAN, STD = torch.tensor([90.0, 100.0, 110.0]).reshape(3, 1, 1), torch.tensor([50.0, 60.0, 70.0]).reshape(3, 1, 1)


def images(count: int, shape: tuple[int, ...] = (3, 8, 6), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return images(count), torch.arange(count)


def augmented_alone(image: np.ndarray, flip: bool, corner: tuple[int, int], padding: int) -> np.ndarray:
    """One image in NumPy: crop, then flip, then normalise."""
    channels, height, width = image.shape
    canvas = np.zeros((channels, height + 2 * padding, width + 2 * padding), image.dtype)
    canvas[:, padding : padding + height, padding : padding + width] = image
    window = canvas[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    window = window[:, :, ::-1] if flip else window
    return (window.astype(np.float32) - MEAN.numpy()) / STD.numpy()


def draws_of(count: int, seed: int, epoch: int, padding: int, p: float) -> tuple[list[bool], list[list[int]]]:
    """The numbers of an epoch, from generators made here."""
    flips = torch.Generator().manual_seed(derive_seed(seed, "augmentation", "flip", epoch))
    corners = torch.Generator().manual_seed(derive_seed(seed, "augmentation", "crop", epoch))
    return (
        (torch.rand(count, generator=flips) < p).tolist(),
        torch.randint(2 * padding + 1, (count, 2), generator=corners).tolist(),
    )


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize(("padding", "p"), [(1, 0.5), (4, 0.25), (9, 1.0)])
def test_batches_equal_a_loop_over_samples(epoch, padding, p):
    pixels, numbers = numbered(50)
    transform = ImageTransform(MEAN, STD, (Crop(padding), Flip(p)))
    batches = TensorBatches((pixels, numbers), 8, shuffle=True, seed=11, transform=transform)
    batches.set_epoch(epoch)
    flips, corners = draws_of(50, 11, epoch, padding, p)
    order = epoch_order(50, 11, epoch).tolist()
    got = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    assert got[0].dtype == torch.float32
    assert got[1].tolist() == order
    for place, sample in enumerate(order):
        alone = augmented_alone(pixels[sample].numpy(), flips[place], corners[place], padding)
        np.testing.assert_allclose(got[0][place].numpy(), alone, rtol=1e-6, atol=1e-6)


@settings(max_examples=40)
@given(
    n=st.integers(1, 40),
    share=st.integers(1, 12),
    parts=st.integers(1, 4),
    world=st.integers(1, 3),
    epoch=st.integers(0, 5),
)
def test_a_sample_is_augmented_alike_whatever_the_batch_the_microbatches_and_the_ranks(n, share, parts, world, epoch):
    assume(n >= world)
    assume(parts <= share)
    transform = ImageTransform(MEAN, STD, (Flip(), Crop(2)))

    def inputs(**options) -> dict[int, torch.Tensor]:
        batches = TensorBatches(numbered(n), shuffle=True, seed=5, transform=transform, **options)
        batches.set_epoch(epoch)
        return {int(number): image for batch in batches for image, number in zip(*batch, strict=True)}

    whole = inputs(batch_size="full")
    spread: dict[int, torch.Tensor] = {}
    for rank in range(world):
        options = {"microbatches": parts, "rank": rank, "world_size": world, "equal_shares": True}
        spread |= inputs(batch_size=share * world, **options)
    assert len(spread) == n - n % world
    assert all(torch.equal(image, whole[number]) for number, image in spread.items())


@settings(max_examples=20)
@given(n=st.integers(2, 40), batch=st.integers(1, 12), done=st.integers(0, 40), epoch=st.integers(0, 4))
def test_a_resumed_epoch_has_the_batches_that_it_would_have_had(n, batch, done, epoch):
    def batches(seed: int) -> TensorBatches:
        made = TensorBatches(numbered(n), batch, shuffle=True, seed=seed, transform=transform)
        made.set_epoch(epoch)
        return made

    transform = ImageTransform(MEAN, STD, (Crop(3), Flip()))
    straight = batches(1)
    iterator = iter(straight)
    for _ in range(1 + done % len(straight)):
        next(iterator)
    state = straight.state_dict()
    left = list(iterator)
    assume(left)
    resumed = batches(2)  # the state brings the seed
    resumed.load_state_dict(state)
    for first, second in zip(left, resumed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_epochs_and_seeds_differ_and_one_augmentation_does_not_disturb_the_other():
    pixels = images(64)

    def inputs(seed: int, epoch: int, *augmentations: Crop | Flip) -> torch.Tensor:
        prepare = ImageTransform(MEAN, STD, augmentations).for_epoch(64, seed, epoch, torch.device("cpu"))
        return prepare((pixels,), 0, 64)[0]

    assert torch.equal(inputs(1, 0, Flip()), inputs(1, 0, Flip()))
    assert not torch.equal(inputs(1, 0, Flip()), inputs(1, 1, Flip()))
    assert not torch.equal(inputs(1, 0, Flip()), inputs(2, 0, Flip()))
    plain, flipped = inputs(1, 0), inputs(1, 0, Flip())
    cropped, both = inputs(1, 0, Crop(2)), inputs(1, 0, Crop(2), Flip())
    which = ~(flipped == plain).flatten(1).all(1)
    assert torch.equal(both, torch.where(which[:, None, None, None], cropped.flip(-1), cropped))


@settings(max_examples=25)
@given(height=st.integers(1, 9), width=st.integers(1, 9), padding=st.integers(1, 5), seed=st.integers(0, 99))
def test_laws_of_flip_and_crop(height, width, padding, seed):
    pixels = images(6, (2, height, width), seed)
    every = torch.ones(6, dtype=torch.bool)
    assert torch.equal(Flip().apply(Flip().apply(pixels, every), every), pixels)
    assert torch.equal(Flip().apply(pixels, ~every), pixels)
    crop, middle = Crop(padding), torch.full((6, 2), padding)
    assert torch.equal(crop.apply(pixels, middle), pixels)
    corners = crop.draw(6, torch.Generator().manual_seed(seed))
    assert corners.min() >= 0
    assert corners.max() <= 2 * padding
    # what is cut out at one place and put back at the opposite one loses its border only
    back = crop.apply(crop.apply(pixels, corners), 2 * padding - corners)
    assert ((back == pixels) | (back == 0)).all()


def test_each_place_of_the_window_and_each_side_is_equally_likely():
    generator = torch.Generator().manual_seed(0)
    corners = Crop(2).draw(25_000, generator)
    counts = torch.bincount(corners[:, 0] * 5 + corners[:, 1], minlength=25).double()
    # chi-squared with 24 degrees of freedom exceeds 59.7 once in 10,000 times
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 59.7
    share = Flip(0.3).draw(20_000, generator).double().mean()
    assert abs(float(share) - 0.3) < 4 * (0.3 * 0.7 / 20_000) ** 0.5
    assert not Flip(0.0).draw(1000, generator).any()
    assert Flip(1.0).draw(1000, generator).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_data_set_and_the_global_random_state_stay_as_they_are(shuffle):
    pixels, numbers = numbered(40)
    before = pixels.clone()
    transform = ImageTransform(MEAN, STD, (Crop(1), Flip()))
    for augmentations in ((), transform.augmentations):
        torch.manual_seed(0)
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        changed = ImageTransform(MEAN, STD, augmentations)
        for inputs, _ in TensorBatches((pixels, numbers), 7, shuffle=shuffle, transform=changed):
            inputs.zero_()  # even a net that changes its inputs in place cannot reach the set
        assert torch.equal(pixels, before)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.random.get_state()[1].tolist() == states[2]


def test_names_and_mappings_say_the_same():
    assert build_augmentations(None) == build_augmentations([]) == ()
    assert build_augmentations(["flip", {"name": "crop", "padding": 2}]) == (Flip(), Crop(2))
    assert build_augmentations("flip") == build_augmentations({"name": "flip"}) == (Flip(0.5),)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (["flop"], "augmentation: 'flop' is not one of flip, crop; did you mean flip"),
        ([{"padding": 3}], "neither a name nor a mapping with a name"),
        ([3], "augmentation: 3 is neither"),
        ([{"name": "crop", "size": 3}], "augmentation.crop: takes padding, not size"),
        ([{"name": "crop", "padding": 0}], "augmentation.crop.padding: 0 .* at least 1"),
        ([{"name": "crop", "padding": 1.5}], "augmentation.crop.padding: 1.5"),
        ([{"name": "flip", "p": 2}], "augmentation.flip.p: 2 .* from 0 to 1"),
        (["flip", "flip"], "each may come once"),
    ],
)
def test_a_mistake_is_one_line(choice, message):
    with pytest.raises(UserError, match=message) as caught:
        build_augmentations(choice)
    assert "\n" not in str(caught.value)
