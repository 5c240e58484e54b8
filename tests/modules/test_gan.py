"""A GAN's training against a loop in plain torch: steps, players, R1, averages, schedules, precision."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from users_project import make_trainer, parameters_of

from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import GAN, Recipe, Regularizer
from trainoff.modules.gan_losses import GAN_LOSSES


class Halved(Regularizer):
    """A third party's: half of the gradient."""

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(0.5)


TINY = {"name": "dcgan", "width": 4, "latent": 6}
ADAM = {"name": "adam", "lr": 1e-3, "betas": [0.5, 0.999]}
SGD = {"name": "sgd", "lr": 0.05}


def make(recipe: Recipe | None = None, seed: int = 3, **arguments: Any) -> GAN:
    L.seed_everything(seed, verbose=False)
    options = {"net": TINY, "input_shape": (1, 8, 8), "num_classes": 10, **arguments}
    return GAN(recipe=Recipe(ADAM, batch=64) if recipe is None else recipe, **options)


def fit(module: GAN, steps: int = 5, data: Any = None, **arguments: Any) -> L.Trainer:
    """Without an evaluation, whose classifier takes a second."""
    options: dict[str, Any] = {"max_epochs": 1, "max_steps": steps, "limit_val_batches": 0}
    trainer = make_trainer(**{**options, **arguments})
    trainer.fit(module, datamodule=Digits() if data is None else data)
    return trainer


def batches_of_images(module: GAN, size: int, count: int) -> list[Tensor]:
    """What the steps saw: an untouched DataModule's first batches, in [−1, 1]."""
    L.seed_everything(3, verbose=False)
    data = Digits(batch_size=size)
    low, high = module.hparams["pixel_range"]
    data.setup("fit")
    loader = data.train_dataloader()
    return [(2 * (images - low) / (high - low) - 1) for images, _ in list(loader)[:count]]


def plain_loop(module: GAN, net: nn.Module, images: list[Tensor], gamma: float = 0.0, loss: str = "logistic") -> None:
    """Goodfellow et al.'s algorithm 1 with k = 1, as one would write it by hand."""
    players: Any = net
    of_generator = torch.optim.Adam(players.generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_discriminator = torch.optim.Adam(players.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    players.train()
    for step, real in enumerate(images):
        fake = players.generator(module.latents(len(real), "discriminator", step)).detach()
        real = real.clone().requires_grad_()
        logits, fakes = players.discriminator(real), players.discriminator(fake)
        cost = {
            "logistic": lambda a=logits, b=fakes: (
                F.binary_cross_entropy_with_logits(a, torch.ones_like(a))
                + F.binary_cross_entropy_with_logits(b, torch.zeros_like(b))
            ),
            "hinge": lambda a=logits, b=fakes: (1 - a).clamp(min=0).mean() + (1 + b).clamp(min=0).mean(),
            "wasserstein": lambda a=logits, b=fakes: b.mean() - a.mean(),
            "least_squares": lambda a=logits, b=fakes: (
                (F.mse_loss(a, torch.ones_like(a)) + F.mse_loss(b, torch.zeros_like(b))) / 2
            ),
        }[loss]()
        if gamma:
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            cost = cost + gamma / 2 * slope.square().sum((1, 2, 3)).mean()
        of_discriminator.zero_grad()
        cost.backward()
        of_discriminator.step()
        fakes = players.discriminator(players.generator(module.latents(len(real), "generator", step)))
        cost = {
            "logistic": lambda b=fakes: F.binary_cross_entropy_with_logits(b, torch.ones_like(b)),
            "hinge": lambda b=fakes: -b.mean(),
            "wasserstein": lambda b=fakes: -b.mean(),
            "least_squares": lambda b=fakes: F.mse_loss(b, torch.ones_like(b)) / 2,
        }[loss]()
        of_generator.zero_grad()
        cost.backward()
        of_generator.step()


@pytest.mark.parametrize("loss", sorted(GAN_LOSSES))
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_steps_are_those_of_a_loop_written_by_hand(loss: str, gamma: float) -> None:
    """With R1 too, by autograd through autograd."""
    penalty = [{"name": "r1", "coefficient": gamma}] if gamma else []
    module = make(Recipe(ADAM, regularizers=penalty, batch=64), loss=loss)
    net = copy.deepcopy(module.net)
    trainer = fit(module, steps=4)
    assert trainer.global_step == 4
    assert net is not None
    plain_loop(module, net, batches_of_images(module, 64, 4), gamma, loss)
    for (name, ours), theirs in zip(module.net.named_parameters(), net.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_batches_of_eight() -> None:
    module = make(Recipe(ADAM, batch=8))
    net = copy.deepcopy(module.net)
    fit(module, steps=6)
    assert net is not None
    plain_loop(module, net, batches_of_images(module, 8, 6))
    torch.testing.assert_close(parameters_of(module.net), parameters_of(net), rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


def test_r1_is_its_formula_for_a_linear_discriminator() -> None:
    """D(x) = w·x has the gradient w at every x: the penalty's gradient is γw, whatever the images."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.latent = 2
            self.generator = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
            self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))

    moved = []
    torch.manual_seed(0)
    start = Linear()
    for gamma in (0.0, 3.0):
        net = copy.deepcopy(start)
        L.seed_everything(3, verbose=False)
        fit(GAN(net, Recipe(SGD, regularizers=[{"name": "r1", "coefficient": gamma}], batch=64)), steps=1)
        moved.append(net.discriminator[1].weight.detach())
    torch.testing.assert_close(moved[1], moved[0] - 0.05 * 3.0 * start.discriminator[1].weight)


# The two recipes


def test_each_optimizer_has_its_own_net_and_recipe() -> None:
    other = Recipe({"name": "sgd", "lr": 0.3, "momentum": 0.5}, batch=64)
    module = make(Recipe(ADAM, batch=64), discriminator_recipe=other)
    trainer = fit(module)
    net: Any = module.net
    kinds = [type(optimizer) for optimizer in trainer.optimizers]
    assert kinds == [torch.optim.Adam, torch.optim.SGD]
    for optimizer, part in zip(trainer.optimizers, (net.generator, net.discriminator), strict=True):
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in part.parameters()}


@pytest.mark.parametrize(("still", "moving"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_rate_of_zero_leaves_its_own_net_alone(still: str, moving: str) -> None:
    rates = {still: 0.0, moving: 1e-2}
    module = make(
        Recipe({"name": "sgd", "lr": rates["generator"]}, batch=64),
        discriminator_recipe=Recipe({"name": "sgd", "lr": rates["discriminator"]}),
    )
    before = {name: parameters_of(getattr(module.net, name)) for name in (still, moving)}
    fit(module, steps=3)
    assert torch.equal(parameters_of(getattr(module.net, still)), before[still])
    assert not torch.equal(parameters_of(getattr(module.net, moving)), before[moving])


EACH_NET = [
    {"name": "l2", "coefficient": 0.1},
    {"name": "l1", "coefficient": 0.1},
    {"name": "weight_decay", "coefficient": 0.5},
    {"name": "gradient_clip", "maximum": 1e-3},
    {"name": "gradient_noise", "sigma": 1.0},
    "gradient_centralization",
    {"name": "orthogonal", "coefficient": 0.1},
    {"name": "spectral_norm", "coefficient": 0.1},
    {"name": "max_norm", "maximum": 0.01},
    {"name": "lookahead", "k": 2},
]


@pytest.mark.parametrize("regularizer", EACH_NET, ids=lambda r: r if isinstance(r, str) else r["name"])
def test_a_regularizer_acts_on_its_own_net_only(regularizer: Any) -> None:
    """In the discriminator's recipe: that net ends elsewhere, and the generator, at a rate of zero, where it began."""
    ends = {}
    for kind in ("none", "discriminator"):
        own = Recipe(SGD, regularizers=[regularizer] if kind == "discriminator" else [])
        module = make(Recipe({"name": "sgd", "lr": 0.0}, batch=64), discriminator_recipe=own)
        watched = {name: parameters_of(getattr(module.net, name)) for name in ("generator", "discriminator")}
        fit(module, steps=2)
        ends[kind] = parameters_of(module.net.discriminator)  # type: ignore[union-attr, arg-type]
        assert torch.equal(parameters_of(module.net.generator), watched["generator"])  # type: ignore[union-attr, arg-type]
    assert not torch.equal(ends["none"], ends["discriminator"])


def test_l2_is_sgd_s_weight_decay_in_both_nets() -> None:
    ends = []
    for recipe in (
        Recipe(SGD, regularizers=[{"name": "l2", "coefficient": 0.02}], batch=64),
        Recipe({**SGD, "weight_decay": 0.04}, batch=64),
    ):
        module = make(recipe)
        fit(module)
        ends.append(parameters_of(module))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def test_spike_guards_judge_their_own_player_s_loss() -> None:
    module = make(Recipe(ADAM, regularizers=[{"name": "spike_guard", "action": "count", "window": 50}], batch=64))
    trainer = fit(module, steps=6)
    guards = [callback for callback in trainer.callbacks if type(callback).__name__ == "SpikeGuard"]  # type: ignore[attr-defined]
    assert [guard.part for guard in guards] == ["net.generator", "net.discriminator"]
    losses = [list(guard._losses) for guard in guards]
    assert [len(values) for values in losses] == [6, 6]
    assert losses[0][0] == pytest.approx(0.7, abs=0.1)  # log 2: the discriminator knows nothing yet
    assert losses[1][0] == pytest.approx(1.4, abs=0.2)  # 2 log 2


def test_the_average_is_the_generator_s_by_its_formula() -> None:
    """d is min(decay, (1 + n)/(10 + n)) after n updates; the discriminator stays as it was trained."""
    states: list[dict[str, Tensor]] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            states.append({k: v.detach().clone() for k, v in pl_module.net.named_parameters()})

    module = make(Recipe(ADAM, regularizers=[{"name": "ema", "decay": 0.6}], batch=64))
    fit(module, steps=8, callbacks=[Watch()])
    average = dict(states[0])
    for updates, state in enumerate(states[1:], 1):
        decay = min(0.6, (1 + updates) / (10 + updates))
        average = {k: decay * v + (1 - decay) * state[k] for k, v in average.items()}
    assert module.net is not None
    for name, parameter in module.net.named_parameters():
        expected = average[name] if name.startswith("generator") else states[-1][name]
        torch.testing.assert_close(parameter.detach(), expected)


def test_batch_norm_s_statistics_are_those_of_the_average() -> None:
    module = make(Recipe(ADAM, regularizers=["ema"], batch=64))
    fit(module, steps=8)
    net: Any = module.net
    norm = next(layer for layer in net.generator if isinstance(layer, nn.BatchNorm2d))
    sizes = [64] * 16 + [55]  # of the 1,079 training images
    with torch.no_grad():
        projected = [net.generator[:2](module.latents(n, "net.generator", i)) for i, n in enumerate(sizes)]
    means = torch.stack([part.mean((0, 2, 3)) for part in projected])
    torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_schedules_are_stepped_once_a_batch_or_once_an_epoch(interval: str) -> None:
    schedule = {"name": "exponential", "gamma": 0.5, "interval": interval}
    module = make(Recipe(SGD, schedule, batch=256))
    trainer = fit(module, steps=-1, max_epochs=2)  # 1,079 images: five batches an epoch
    steps = {"step": 10, "epoch": 2}[interval]
    assert trainer.global_step == 10
    for optimizer in trainer.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5**steps)


def test_plateau_reads_the_distance() -> None:
    schedule = {"name": "plateau", "monitor": "val/frechet_distance", "mode": "max", "patience": 0, "multiplier": 0.1}
    module = make(Recipe({"name": "sgd", "lr": 1e-6}, schedule, batch="full"))
    trainer = fit(module, steps=-1, max_epochs=3, limit_val_batches=1.0)
    assert trainer.optimizers[0].param_groups[0]["lr"] < 1e-6


def test_an_initialisation_and_a_frozen_part() -> None:
    recipe = Recipe(SGD, initialisation="orthogonal", batch=64)
    other = Recipe(SGD, parameters=[{"match": "0.weight", "freeze": True}])
    module = make(recipe, discriminator_recipe=other)
    net: Any = module.net
    first = net.generator[0].weight
    torch.testing.assert_close(first.T @ first, torch.eye(first.shape[1]), rtol=0, atol=1e-5)
    frozen = net.discriminator[0].weight
    assert not frozen.requires_grad
    before = frozen.clone()
    fit(module)
    assert torch.equal(net.discriminator[0].weight, before)
    assert not frozen.requires_grad
    Recipe(SGD).apply(module)
    assert frozen.requires_grad is False  # the discriminator's own recipe still says so


def test_another_recipe_is_applied_to_both() -> None:
    module = Recipe({"name": "sgd", "lr": 0.3}, batch=64).apply(make())
    trainer = fit(module)
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.3, 0.3]
    assert module.hparams["recipe"]["optimizer"] == {"name": "sgd", "lr": 0.3}


@pytest.mark.parametrize(
    ("recipe", "other", "message"),
    [
        (Recipe(ADAM, regularizers=["mixup"]), None, "Mixup needs a loss of inputs and targets"),
        (Recipe(ADAM, regularizers=["label_smoothing"]), None, "LabelSmoothing needs a loss"),
        (Recipe(ADAM, regularizers=["ewc"]), None, "EWC needs a loss"),
        (Recipe(ADAM, regularizers=["input_noise"]), None, "InputNoise needs a loss"),
        (Recipe(ADAM, regularizers=["sam"]), None, "'sam' needs more than a gradient"),
        (Recipe("lbfgs"), None, "'lbfgs' needs more than a gradient"),
        (Recipe("adahessian"), None, "'adahessian' needs more than a gradient"),
        (Recipe("schedulefreeadamw"), None, "needs more than a gradient"),
        (Recipe(ADAM, microbatches=2), None, "microbatches: a GAN optimizes by hand"),
        (Recipe(ADAM, pruning="magnitude"), None, "pruning"),
        (Recipe(ADAM), Recipe(ADAM, batch=3), "discriminator_recipe.batch: is the whole training's"),
        (Recipe(ADAM), Recipe("lbfgs"), "discriminator_recipe.optimizer"),
        (Recipe(ADAM, regularizers=["r1"]), Recipe(ADAM), "put it into discriminator_recipe"),
        (Recipe(ADAM), Recipe(ADAM, regularizers=["ema"]), "put it into recipe"),
    ],
)
def test_what_cannot_act_on_a_gan_is_refused(recipe: Recipe, other: Recipe | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(recipe, discriminator_recipe=other)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="did you mean hinge"):
        make(loss="hing")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Linear is no GAN: it needs generator"):
        GAN(nn.Linear(2, 2))
    with pytest.raises(UserError, match="MLP is no GAN"):
        make(net="mlp")
    with pytest.raises(UserError, match="takes images"):
        fit(GAN(TINY), data=Diabetes())


def test_a_third_party_s_regularizer_acts_where_it_changes_gradients_only() -> None:
    recipe = Recipe(SGD, regularizers=[{"class_path": f"{__name__}.Halved"}], batch=64)
    module = make(recipe)
    plain = make(Recipe({**SGD, "lr": 0.025}, batch=64))
    for one in (module, plain):
        fit(one)
    torch.testing.assert_close(parameters_of(module), parameters_of(plain))


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions_train_and_evaluate(precision: str) -> None:
    found = []
    for named in ("32-true", precision):
        recipe = Recipe(ADAM, regularizers=["ema", "r1"], batch=64, precision=named)
        module = make(recipe)
        trainer = fit(module, **{"limit_val_batches": 1.0, **recipe.trainer_arguments()})
        found += trainer.validate(module, datamodule=Digits(), verbose=False)
    for name in ("val/loss", "val/frechet_distance"):
        assert found[1][name] == pytest.approx(found[0][name], rel=0.1)


def test_early_stopping_reads_the_distance() -> None:
    stop = {"name": "early_stopping", "monitor": "val/frechet_distance", "mode": "max", "patience": 0}
    module = make(Recipe(ADAM, regularizers=[stop, "swa"], batch="full"))
    trainer = fit(module, steps=-1, max_epochs=9, limit_val_batches=1.0)
    assert trainer.current_epoch < 9  # the distance falls, and that is worse here


def test_an_untrained_gan_is_evaluated_too() -> None:
    L.seed_everything(0, verbose=False)
    (found,) = make_trainer().validate(GAN(TINY), datamodule=Digits(), verbose=False)
    assert found["val/frechet_distance"] > 500
    assert found["val/loss"] == pytest.approx(1.386, abs=0.05)  # 2 log 2
