"""What all DataModules of images share: pixels in memory, normalised batches, augmentation in training only."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from trainoff.datamodules import (
    CIFAR10,
    MNIST,
    DataModuleEntry,
    Digits,
    HubImages,
    ImageDataModule,
    ImageFolder,
    RawData,
)
from trainoff.datamodules.image_augmentation import Crop, Flip
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe


class Noise(ImageDataModule):
    """240 images of random colours in 4 classes, and 40 to test."""

    facts: ClassVar[DataModuleEntry] = DataModuleEntry("noise", "", input_shape=(3, 8, 8), num_classes=4)

    def raw_data(self) -> RawData:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (280, 3, 8, 8)).astype(np.uint8)
        labels = np.arange(280) % 4
        images[:, 0] //= 2  # channels of different statistics
        return RawData(images[:240], labels[:240], images[240:], labels[240:])


AUGMENTED = ["flip", {"name": "crop", "padding": 2}]


def test_pixels_stay_bytes_and_batches_are_normalised_by_channel():
    data = Noise(batch_size=48)
    pixels, _ = data.stored("train")
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (192, 3, 8, 8)
    batches = torch.cat([inputs for inputs, _ in data.train_eval_dataloader()])
    expected = (pixels[:40].double() - pixels.double().mean((0, 2, 3))[:, None, None]) / pixels.double().std(
        (0, 2, 3), correction=0
    )[:, None, None]
    np.testing.assert_allclose(batches.numpy(), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(data.split("train")[0][:40].numpy(), expected.numpy(), atol=1e-6)
    for loader, count in ((data.val_dataloader(), 48), (data.test_dataloader(), 40)):
        assert sum(len(targets) for _, targets in loader) == count


def test_augmentation_reaches_training_batches_only():
    plain, augmented = Noise(batch_size=64), Noise(batch_size=64, augmentation=AUGMENTED)
    assert plain.digest() == augmented.digest()
    for loader in ("train_eval_dataloader", "val_dataloader", "test_dataloader"):
        pairs = zip(getattr(plain, loader)(), getattr(augmented, loader)(), strict=True)
        assert all(torch.equal(first[0], second[0]) for first, second in pairs)
    first, second = next(iter(plain.train_dataloader())), next(iter(augmented.train_dataloader()))
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


def test_training_leaves_the_pixels_as_they_are():
    data = Noise(batch_size=32, augmentation=AUGMENTED)
    before = data.digest()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.train_eval_dataloader()):
        for inputs, _ in loader:
            inputs.mul_(0)
    assert data.digest() == before


def trained(folder, resume: str | None = None) -> Classifier:
    L.seed_everything(3, verbose=False)
    recipe = Recipe({"name": "sgd", "lr": 0.05})
    module = Classifier({"name": "mlp", "hidden": [8]}, recipe)
    keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=3, callbacks=[keep], num_sanity_val_steps=0, **quiet)
    trainer.fit(module, Noise(batch_size=64, augmentation=AUGMENTED), ckpt_path=resume, weights_only=True)
    assert trainer.global_step == 9
    return module


@pytest.mark.parametrize("step", [2, 4])
def test_a_training_resumed_within_an_augmented_epoch_ends_bitwise_where_it_would_have(tmp_path, step):
    straight = trained(tmp_path / "straight")
    resumed = trained(tmp_path / "resumed", str(tmp_path / "straight" / f"step={step}.ckpt"))
    for first, second in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_large_images_are_evaluated_in_smaller_batches():
    class Large(Noise):
        def raw_data(self) -> RawData:
            return RawData(np.zeros((60, 3, 512, 512), np.uint8), np.arange(60) % 4)

    data = Large()
    assert [len(targets) for _, targets in data.val_dataloader()] == [8, 4]


def test_mistakes_in_the_arguments_are_said_at_once():
    with pytest.raises(UserError, match="'flop' is not one of"):
        Noise(augmentation=["flop"])
    with pytest.raises(UserError, match="val_fraction"):
        Noise(val_fraction=2.0)
    with pytest.raises(UserError, match=r"test_fraction: 0\.5 does not go with this set, which has one"):
        Noise(test_fraction=0.5).setup("fit")


def test_digits_can_be_shown_in_the_size_that_image_nets_are_made_for():
    small, large = Digits(), Digits(scale=4)
    assert small.input_shape == (1, 8, 8)
    assert large.input_shape == (1, 32, 32)
    for name in ("train", "val", "test"):
        expected = np.kron(small.split(name)[0].numpy(), np.ones((1, 1, 4, 4), np.float32))
        np.testing.assert_allclose(large.split(name)[0].numpy(), expected, atol=1e-6)
        assert torch.equal(small.split(name)[1], large.split(name)[1])
    assert Digits(scale=1).digest() == small.digest()
    for scale in (0, 1.5, True):
        with pytest.raises(UserError, match=r"scale: .* at least 1"):
            Digits(scale=scale)


def test_the_command_line_and_the_hyperparameters_take_augmentation_as_it_is_written():
    from jsonargparse import ArgumentParser

    for data_class in (MNIST, CIFAR10, HubImages, ImageFolder):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(data_class, "data")
        required = {HubImages: ["--data.dataset=me/mine"], ImageFolder: ["--data.path=mine"]}.get(data_class, [])
        given = [*required, "--data.augmentation=[flip, {name: crop, padding: 2}]"]
        built = parser.instantiate(parser.parse_args(given)).data
        assert built.hparams.augmentation == AUGMENTED
        assert built._augmentations == (Flip(), Crop(2))
