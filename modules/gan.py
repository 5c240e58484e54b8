"""Images from noise, by two nets that train against each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from trainoff.errors import UserError, closest
from trainoff.modules import applying
from trainoff.modules.adversarial_recipes import PLAYERS, Player, Recipes, Schedules, penalty_of
from trainoff.modules.frechet_distance import FrechetDistance
from trainoff.modules.gan_losses import GAN_LOSSES, GANLossName
from trainoff.modules.gan_net import GANNet, as_gan_net
from trainoff.modules.image_features import FEATURES, ImageFeatures, labelled_images, train_features
from trainoff.modules.loss_sum import LossSum
from trainoff.modules.pixel_range import measured_pixel_range
from trainoff.modules.recipe import Recipe
from trainoff.modules.recipe_module import RecipeModule
from trainoff.modules.regularizers.gradient_penalty import input_gradient_penalty
from trainoff.modules.sample_grids import log_grid
from trainoff.seeds import derive_seed

_GRID_IMAGES = 64
# While it trains and validates.
LOGGED_NAMES = ("train/loss", "train/discriminator_loss", "val/loss", "val/frechet_distance")


class GAN(RecipeModule):
    """A generator of images and a discriminator, trained in turn (Goodfellow et al. 2014, algorithm 1 with k = 1).

    Each batch, of any size from 1 (2 with batch norm), makes one step of the discriminator and then one of the
    generator, each on latent vectors of its own and each by its own recipe; a batch counts as one step. Real images
    are mapped from ``pixel_range`` to [−1, 1], where the generator's tanh is.

    A recipe that stands for both nets acts on each where it can: the averages ``ema`` and ``swa`` are the generator's,
    as is ``early_stopping``; ``r1`` (on real images: Mescheder et al. 2018, eq. 9) and ``dropout`` are the
    discriminator's. Patterns of ``parameters`` are names within the net. What needs targets, several evaluations of
    one loss, or micro-batches is refused. Batch, precision and strategy come from ``recipe``.

    Logs ``train/loss`` (the generator's) and ``train/discriminator_loss``, means over the epoch;
    under ``val/`` and ``test/`` ``loss``, the discriminator's on held-out images and as many generated ones, and
    ``frechet_distance``: the Fréchet distance between held-out and generated images in the features of a small
    classifier that is trained on this dataset's training split before the first evaluation
    (:mod:`trainoff.modules.image_features`). It is no FID, whose features are Inception's, and compares GANs on one
    dataset only. The classifier is in the checkpoint. Generated images are evaluated from the same latent vectors each
    time; a grid of 64 is logged after each validation, where there is a logger.

    Args:
        net: A name (``dcgan``), a mapping, a class path, or any ``nn.Module`` that is a
            :class:`trainoff.modules.gan_net.GANNet`.
        recipe: Of the generator, and of the discriminator where nothing else is said.
        discriminator_recipe: Of the discriminator.
        loss: ``logistic`` (non-saturating), ``hinge``, ``wasserstein`` or ``least_squares``.
        input_shape: Of one image; taken from the DataModule when the Trainer starts.
        output_size: Of the discriminator.
        pixel_range: The least and the greatest value of the images' pixels as batches have them; from the DataModule's
            ``pixel_range``, else from the training split.
        num_classes: Of the labels, for the metric's classifier; from the DataModule.

    Raises:
        UserError: For recipes that cannot act on a GAN, a net that is none, an unknown loss.
    """

    shards_its_net = False

    from_data: ClassVar[tuple[str, ...]] = ("pixel_range", "num_classes")
    features: ImageFeatures | None

    def __init__(
        self,
        net: str | dict | nn.Module | None = "dcgan",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe({"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]}),  # noqa: B008 (immutable)
        discriminator_recipe: Recipe | str | dict[str, Any] | None = None,
        loss: GANLossName = "logistic",
        input_shape: Sequence[int] | None = None,
        output_size: int = 1,
        pixel_range: Sequence[float] | None = None,
        num_classes: int | None = None,
    ) -> None:
        if loss not in GAN_LOSSES:
            raise UserError(f"no loss of a GAN is called '{loss}'{closest(loss, GAN_LOSSES)}", "loss")
        other = None if discriminator_recipe is None else Recipe.of(discriminator_recipe)
        if other is not None:
            other.validate()
        super().__init__(
            net,
            recipe,
            input_shape,
            output_size,
            discriminator_recipe=None if other is None else other.to_dict(),
            loss=loss,
            pixel_range=None if pixel_range is None else [float(value) for value in pixel_range],
            num_classes=num_classes,
        )
        self.automatic_optimization = False
        self.present_part = ""  # whose turn it is, for the recipes' callbacks
        self._build_features()

    def build_parts(self) -> None:
        """The losses and the metrics; the metric's classifier comes when the classes are known."""
        self.features = None
        self.losses = GAN_LOSSES[self.hparams["loss"]]
        self.validation_loss, self.test_loss = MeanMetric(), MeanMetric()
        self.validation_distance, self.test_distance = FrechetDistance(FEATURES), FrechetDistance(FEATURES)
        self.mean_losses = {player: LossSum() for player in PLAYERS}
        self.schedules = Schedules([])

    # The recipes

    @property
    def recipes(self) -> Recipes:
        """Both recipes."""
        recipe, other = cast(Recipe, self.recipe), self.hparams["discriminator_recipe"]
        return Recipes(recipe, recipe if other is None else Recipe.of(other))

    def take_recipe(self, recipe: Recipe) -> None:
        """Attach the generator's recipe, and the discriminator's, with their callbacks.

        Raises:
            UserError: Where one of them cannot act on a GAN.
        """
        other = self.hparams["discriminator_recipe"]
        recipes = Recipes(recipe, recipe if other is None else Recipe.of(other))
        recipes.check()
        self.r1_coefficient = penalty_of(recipes.discriminator)
        applying.take_recipe(recipe, self, recipes.callbacks())

    def prepare(self) -> None:
        """Initialise and freeze each net as its recipe says; once a recipe."""
        net = self._gan_net()
        if vars(self)["recipe_is_prepared"]:
            return
        frozen: list[str] = []
        for player, recipe in zip(PLAYERS, self.recipes, strict=True):
            names = applying.initialise_and_freeze(getattr(net, player), recipe)
            frozen += [f"net.{player}.{name}" for name in names]
        self.recipe_is_prepared = True  # type: ignore[assignment]
        self.recipe_frozen = frozen  # type: ignore[assignment]

    def configure_model(self) -> None:
        """The nets, and the metric's classifier.

        Raises:
            UserError: Where no sizes are to be had, or the net is no GAN.
        """
        super().configure_model()
        if self.net is not None and self.hparams["input_shape"] is None and self._trainer is not None:
            shape = getattr(getattr(self.trainer, "datamodule", None), "input_shape", None)
            self.hparams["input_shape"] = None if shape is None else list(shape)
        self._build_features()

    def configure_optimizers(self) -> Any:
        """The generator's optimizer and the discriminator's; their schedules are stepped by :attr:`schedules`."""
        built = [
            applying.optimizer_and_scheduler(recipe, getattr(self._gan_net(), player), self.trainer)
            for player, recipe in zip(PLAYERS, self.recipes, strict=True)
        ]
        configs = [config for _, config in built if config is not None]
        self.schedules = Schedules(configs)
        kept = [{"scheduler": config["scheduler"], "interval": config["interval"]} for config in configs]
        return [optimizer for optimizer, _ in built], kept

    # Training

    def on_fit_start(self) -> None:
        """Find the range of the pixels where nobody has said it."""
        self._find_pixel_range()

    def _find_pixel_range(self) -> None:
        if self.hparams["pixel_range"] is None:
            self.hparams["pixel_range"] = measured_pixel_range(self.trainer, self)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """One step of the discriminator, then one of the generator; the loss that is returned is the latter's."""
        images = self._to_unit(batch[0])
        net = self._gan_net()
        with self._turn("discriminator") as step:
            with torch.no_grad():
                fake = net.generator(self.latents(len(images), "discriminator", self.global_step))
            real = images.detach().requires_grad_(self.r1_coefficient > 0)
            real_logits = net.discriminator(real)
            loss = self.losses.discriminator(real_logits.float(), net.discriminator(fake).float())
            penalty = input_gradient_penalty(real_logits, real, self.r1_coefficient) if self.r1_coefficient else 0
            step(loss + penalty)
        self.mean_losses["discriminator"].add(loss.detach(), len(images))
        with self._turn("generator") as step:
            fake = net.generator(self.latents(len(images), "generator", self.global_step))
            generator_loss = self.losses.generator(net.discriminator(fake).float())
            step(generator_loss)
        self.mean_losses["generator"].add(generator_loss.detach(), len(images))
        self.schedules.step("step")
        return {"loss": generator_loss.detach()}

    @contextlib.contextmanager
    def _turn(self, player: Player) -> Iterator[Any]:
        """A player's turn: the other's weights need no gradient; yields what takes a loss and makes the step."""
        optimizer = cast(Any, self.optimizers())[PLAYERS.index(player)]
        if player == "discriminator":  # a batch is one step of the Trainer's, the generator's
            optimizer._on_before_step = optimizer._on_after_step = _nothing
        self.present_part = f"net.{player}"
        self.toggle_optimizer(optimizer)

        def step(loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

        try:
            yield step
        finally:
            self.untoggle_optimizer(optimizer)
            self.present_part = ""

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean losses, and step the schedules that count epochs."""
        for player, name in (("generator", "train/loss"), ("discriminator", "train/discriminator_loss")):
            mean = self.mean_losses[cast(Player, player)].mean(self.trainer)
            if mean is not None:
                self.log(name, mean, prog_bar=True, sync_dist=True)
        self.mean_losses = {player: LossSum() for player in PLAYERS}
        self.schedules.step("epoch")

    # Images

    def latents(self, count: int, *purpose: str | int) -> Tensor:
        """Standard normal latent vectors (count, latent), a function of the global seed and the purpose.

        Over several processes each gets its part of those that one process would have.
        """
        return self._draw(count, torch.initial_seed(), *purpose)

    def _draw(self, count: int, seed: int, *purpose: str | int) -> Tensor:
        # On the CPU, so that they are the same on every device.
        generator = torch.Generator().manual_seed(derive_seed(seed, "latents", *purpose))
        processes = 1 if self._trainer is None else self.trainer.world_size
        latents = torch.randn(count * processes, self._gan_net().latent, generator=generator)
        own = latents[self.global_rank * count :][:count]
        return own.to(self.device, cast(torch.dtype, self.dtype))

    def inputs_of(self, part: str, batches: Iterable[Any]) -> Iterator[Tensor]:
        """What a part of the net takes, as much as there is data: latent vectors for the generator."""
        for number, batch in enumerate(batches):
            yield self.latents(len(batch[0]), part, number)

    def generate(self, latents: Tensor) -> Tensor:
        """Images in the data's range, from latent vectors (batch, latent)."""
        low, high = self._pixel_range()
        return low + (self._gan_net().generator(latents) + 1) / 2 * (high - low)  # type: ignore[no-any-return]

    def forward(self, *inputs: Any) -> Any:
        """The discriminator's logits (batch, 1) of images in the data's range."""
        (images,) = inputs
        return self._gan_net().discriminator(self._to_unit(images))

    def _to_unit(self, images: Tensor) -> Tensor:
        low, high = self._pixel_range()
        return (images - low) * (2 / (high - low)) - 1

    def _pixel_range(self) -> tuple[float, float]:
        found = self.hparams["pixel_range"]
        if found is None:
            raise UserError("is known when a Trainer starts; give it to have it now", "pixel_range")
        return float(found[0]), float(found[1])

    def _gan_net(self) -> GANNet:
        return as_gan_net(self.net)

    # Evaluation

    def _build_features(self) -> None:
        shape, classes = self.hparams["input_shape"], self.hparams["num_classes"]
        if self.features is None and self.net is not None and shape is not None and classes is not None:
            self.features = ImageFeatures(shape, classes).to(self.device)

    def _prepare_features(self) -> None:
        """Train the metric's classifier, once; not when fit starts, so that it counts as evaluation.

        Raises:
            UserError: Where the data have no classes.
        """
        self._find_pixel_range()
        if self.features is None:
            raise UserError("its metric needs images with class numbers; the DataModule has no num_classes", "gan")
        if bool(self.features.is_trained):
            return
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
            trained = ImageFeatures(self.hparams["input_shape"], self.hparams["num_classes"])  # float32, on the CPU
            train_features(trained, *labelled_images(self.trainer, self))
        self.features.load_state_dict(self.trainer.strategy.broadcast(trained.state_dict()))

    def on_validation_start(self) -> None:
        """Begin with fresh metrics, and with features."""
        self._prepare_features()
        self.validation_loss.reset()
        self.validation_distance.reset()

    def on_test_start(self) -> None:
        """Begin with features."""
        self._prepare_features()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and distance on validation."""
        self._evaluate(batch, batch_idx, self.validation_loss, self.validation_distance)
        self.log("val/loss", self.validation_loss, prog_bar=True)
        self.log("val/frechet_distance", self.validation_distance, prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and distance on test."""
        self._evaluate(batch, batch_idx, self.test_loss, self.test_distance)
        self.log("test/loss", self.test_loss)
        self.log("test/frechet_distance", self.test_distance)

    def _evaluate(self, batch: Any, batch_idx: int, mean_loss: MeanMetric, distance: FrechetDistance) -> None:
        net, images = self._gan_net(), self._to_unit(batch[0])
        fake = net.generator(self._draw(len(images), 0, "evaluation", batch_idx))
        logits = net.discriminator(images).float(), net.discriminator(fake).float()
        mean_loss.update(self.losses.discriminator(*logits), len(images))
        features = cast(ImageFeatures, self.features)
        with torch.autocast(self.device.type, enabled=False):
            distance.update(*(features(part.to(features.hidden.weight.dtype)) for part in (images, fake)))

    def on_validation_epoch_end(self) -> None:
        """Log a grid of images, of the average where the recipe averages."""
        if self.trainer.loggers and not self.trainer.sanity_checking:
            images = self._gan_net().generator(self._draw(_GRID_IMAGES, 0, "grid"))
            log_grid(self.trainer, "samples", (images + 1) / 2)

    def on_validation_end(self) -> None:
        """Step the schedules that read a logged value."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.schedules.step_on_values(self.trainer)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """As many images as the batch has samples, in the data's range."""
        count = len(batch[0] if isinstance(batch, (tuple, list)) else batch)
        return self.generate(self._draw(count, 0, "prediction", batch_idx))


def _nothing() -> None:
    """In place of Lightning's count of steps."""
