"""Laws of augmentation on whole batches; the equality with single samples is in test_image_augmentation.py."""

from __future__ import annotations

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainoff.datamodules.image_augmentation import Crop, Flip, ImageTransform
from trainoff.datamodules.tensor_batches import TensorBatches

MEAN, STD = torch.tensor([90.0, 100.0, 110.0]).reshape(3, 1, 1), torch.tensor([50.0, 60.0, 70.0]).reshape(3, 1, 1)


def images(count: int, shape: tuple[int, ...] = (3, 8, 6), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return images(count), torch.arange(count)


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
