"""A GAN's checkpoints, its command line, its images and its grids."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch.utils.data import DataLoader
from users_project import make_trainer, parameters_of

from trainoff.command_line import main
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import GAN, Recipe
from trainoff.modules.sample_grids import image_grid, log_grid

TINY = {"name": "dcgan", "width": 4, "latent": 6}
ADAM = {"name": "adam", "lr": 1e-3, "betas": [0.5, 0.999]}
RECIPE = Recipe(
    ADAM,
    {"name": "cosine", "warmup": 0.2},
    [{"name": "ema", "decay": 0.9}, {"name": "r1", "coefficient": 0.1}, {"name": "dropout", "p": 0.2}, "l2"],
    batch=128,
)


def make(recipe: Recipe = RECIPE, **arguments: Any) -> GAN:
    L.seed_everything(11, verbose=False)
    return GAN(TINY, recipe, **arguments)


def test_it_reloads_alone_and_evaluates_alike(tmp_path: Path) -> None:
    other = Recipe({"name": "rmsprop", "lr": 1e-3}, regularizers=["r1"])
    module = make(Recipe(ADAM, batch=128), discriminator_recipe=other, loss="hinge")
    trainer = make_trainer()
    trainer.fit(module, datamodule=Digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    before = trainer.test(module, datamodule=Digits(), verbose=False)
    reloaded = GAN.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert dict(reloaded.hparams) == dict(module.hparams)
    assert reloaded.recipes == module.recipes
    assert reloaded.features is not None
    assert bool(reloaded.features.is_trained)
    # The loaders alone: there is no training split to train the metric's classifier on.
    data = Digits()
    data.setup("test")
    assert make_trainer().test(reloaded, dataloaders=data.test_dataloader(), verbose=False) == before
    latents = torch.randn(3, 6)
    assert torch.equal(reloaded.eval().generate(latents), module.eval().generate(latents))


@pytest.mark.parametrize("regularizers", [RECIPE.regularizers, ("max_norm", "spectral_norm", "r1")])
def test_a_resumed_training_ends_at_the_same_parameters(regularizers: Any, tmp_path: Path) -> None:
    recipe = Recipe(ADAM, RECIPE.schedule, regularizers, batch=128)

    # Dropout draws from the global generator, which an epoch's number sets in a benchmark's trial.
    class SeedEpochs(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            L.seed_everything(11 + trainer.current_epoch, verbose=False)

    whole = make(recipe)
    keeper = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    options = {"max_epochs": 4, "enable_checkpointing": True}
    make_trainer(callbacks=[SeedEpochs(), keeper], **options).fit(whole, datamodule=Digits())
    second = make(recipe)
    resumed = make_trainer(max_epochs=4, callbacks=[SeedEpochs()])
    resumed.fit(second, datamodule=Digits(), ckpt_path=tmp_path / "epoch=1.ckpt", weights_only=True)
    assert torch.equal(parameters_of(whole), parameters_of(second))
    assert resumed.global_step == 4 * 9


def test_the_command_line_fits_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "gan", "--data", "digits", "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    options = ["--model.net", "{name: dcgan, width: 4, latent: 6}", "--model.recipe.optimizer", "rmsprop"]
    more = ["--model.loss", "hinge", "--model.discriminator_recipe", "adam", "--trainer.logger", "false"]
    assert main(["fit", *arguments, *options, *more, "--trainer.enable_progress_bar", "false"]) in (0, None)
    saved = next(tmp_path.rglob("*.ckpt"))
    module = GAN.load_from_checkpoint(saved, weights_only=True)
    assert module.recipes.generator.optimizer == {"name": "rmsprop"}
    assert module.recipes.discriminator.optimizer == {"name": "adam"}
    assert module.hparams["loss"] == "hinge"


def test_images_come_in_the_data_s_range() -> None:
    module = make(input_shape=(1, 8, 8), pixel_range=(-2.0, 5.0))
    images = module.generate(torch.randn(50, 6))
    assert images.shape == (50, 1, 8, 8)
    assert images.min() >= -2
    assert images.max() <= 5
    logits = module(images)
    torch.testing.assert_close(logits, module.net.discriminator(module._to_unit(images)))  # type: ignore[union-attr, operator]
    # tanh's −1 and 1 are the ends, and a real image comes back from the net's range.
    real = torch.tensor([-2.0, 1.5, 5.0])
    torch.testing.assert_close(module._to_unit(real), torch.tensor([-1.0, 0.0, 1.0]))
    with pytest.raises(UserError, match="pixel_range: is known when a Trainer starts"):
        make(input_shape=(1, 8, 8)).generate(torch.randn(2, 6))


def test_the_range_is_the_training_split_s() -> None:
    module = make(Recipe(ADAM, batch=100))
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=Digits())
    images = trainer.datamodule.split("train")[0]  # type: ignore[attr-defined]
    assert module.hparams["pixel_range"] == [float(images.min()), float(images.max())]
    predicted = trainer.predict(module, dataloaders=DataLoader(torch.zeros(7, 1, 8, 8), batch_size=7))
    assert predicted is not None
    assert predicted[0].shape == (7, 1, 8, 8)  # type: ignore[union-attr]


def test_a_grid_is_the_naive_one() -> None:
    images = torch.rand(5, 3, 4, 6)
    grid = image_grid(images)
    assert grid.shape == (3, 2 * 5 + 1, 3 * 7 + 1)
    expected = torch.zeros_like(grid)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        expected[:, 5 * row + 1 : 5 * row + 5, 7 * column + 1 : 7 * column + 7] = image
    assert torch.equal(grid, expected)


def test_grids_go_to_the_logger(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    logger = CSVLogger(tmp_path)
    make_trainer(max_epochs=2, logger=logger).fit(make(), datamodule=Digits())
    files = sorted(Path(logger.log_dir, "samples").glob("*.png"))
    assert [file.name for file in files] == ["00000009.png", "00000018.png"]
    assert image.open(files[0]).size == (8 * 9 + 1, 8 * 9 + 1)
    assert image.open(files[0]).mode == "L"


def test_tensorboard_gets_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path)
    seen: list[Any] = []
    monkeypatch.setattr(logger.experiment, "add_image", lambda *arguments: seen.append(arguments))
    make_trainer(max_epochs=1, logger=logger).fit(make(), datamodule=Digits())
    ((name, grid, step),) = seen
    assert (name, grid.shape, step) == ("samples", (1, 73, 73), 9)


def test_wandb_gets_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    seen: list[Any] = []
    monkeypatch.setattr(logger, "log_image", lambda *arguments, **keywords: seen.append((arguments, keywords)))
    trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True, global_step=7)
    log_grid(trainer, "samples", torch.ones(4, 3, 8, 8))
    log_grid(trainer, "samples", torch.ones(4, 2, 8, 8))  # no image
    (((name, (pixels,)), keywords),) = seen
    assert (name, pixels.shape, keywords) == ("samples", (19, 19, 3), {"step": 7})
    assert pixels[1, 1].tolist() == [255, 255, 255]


@pytest.mark.slow
def test_two_processes_are_one() -> None:
    """Without batch norm, which each process takes over its own part; and both measure one distance."""
    ends = []
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        spawned = {"name": "ddp_spawn", "devices": 2, "find_unused_parameters": True, "start_method": "spawn"}
        strategy = spawned if devices == 2 else None
        optimizer = {"name": "sgd", "lr": 0.05}
        recipe = Recipe(optimizer, "cosine", ["r1", "ema", "l2"], batch=64, strategy=strategy)
        module = GAN({**TINY, "norm": "group"}, recipe, input_shape=(1, 8, 8), num_classes=10)
        options = {"max_epochs": 1, "val_check_interval": 16, "max_steps": 16}  # the last batch has an odd number
        trainer = make_trainer(**options, **{"devices": 1, **recipe.trainer_arguments()})
        trainer.fit(module, datamodule=Digits())
        assert module.net is not None
        ends.append((parameters_of(module.net), float(trainer.callback_metrics["val/loss"])))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=0, atol=1e-6)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-2)  # of 359 images, 179 and 180 in two parts
