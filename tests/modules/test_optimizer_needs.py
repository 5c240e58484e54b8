"""What optimizers need beyond gradients and `step()`: given by a recipe in a Trainer, or refused with one line.

Each is compared with its own rule written down here, or with plain torch in a plain loop.
"""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.errors import UserError
from trainoff.modules import OPTIMIZERS, Classifier, Recipe
from trainoff.modules.optimizer_adapters import MatricesAndRest
from trainoff.modules.optimizer_building import build_optimizer
from trainoff.modules.parameter_groups import hidden_matrices
from trainoff.modules.trainer_checks import _check_needs

WITH_GROUPS = [entry.name for entry in OPTIMIZERS if "use_muon" in entry.needs and not entry.unsupported]
GUARANTEED = [entry.name for entry in OPTIMIZERS if entry.guaranteed]


class Quadratic(L.LightningModule):
    """½ Σ h (w − 1)²: the gradient is h (w − 1), the Hessian is diag(h)."""

    def __init__(self, start: tuple[float, ...] = (3.0, -1.0), curvature: tuple[float, ...] = (1.0, 10.0)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.curvature = torch.tensor(curvature, dtype=torch.float64)

    def gradient(self, weight: torch.Tensor) -> torch.Tensor:
        return self.curvature * (weight - 1)

    def training_step(self, batch, batch_idx):
        return 0.5 * (self.curvature * (self.weight - 1) ** 2).sum()

    def configure_optimizers(self):
        raise AssertionError("the recipe replaces it")


def after_steps(
    optimizer: dict, steps: int, module: L.LightningModule | None = None, **arguments
) -> L.LightningModule:
    """A module trained by a recipe for so many steps, all in one epoch."""
    module = Recipe(optimizer).apply(module or Quadratic())
    loader = torch.utils.data.DataLoader(torch.zeros(steps, 1))
    make_trainer(max_epochs=1, **arguments).fit(module, loader)
    return module


# --- the rules ----------------------------------------------------------------------------------------------------


def test_sam_steps_with_the_gradient_from_uphill():
    """w ← w − lr · ∇L(w + ρ g/‖g‖) (Foret et al. 2021, eq. 2 and 3)."""
    rate, rho, problem = 0.05, 0.2, Quadratic()
    weight = problem.weight.detach().clone()
    for _ in range(20):
        gradient = problem.gradient(weight)
        weight = weight - rate * problem.gradient(weight + rho * gradient / gradient.norm())
    sam = {"name": "sam", "rho": rho, "base_optimizer": {"name": "sgd", "lr": rate}}
    torch.testing.assert_close(after_steps(sam, 20).weight.detach(), weight, rtol=0, atol=1e-6)
    # `lr` beside the name is the inner one's.
    sam = {"name": "sam", "rho": rho, "lr": rate, "base_optimizer": "sgd"}
    torch.testing.assert_close(after_steps(sam, 20).weight.detach(), weight, rtol=0, atol=1e-6)


def test_penalties_and_clipping_act_at_each_of_sams_evaluations():
    rate, rho, penalty, problem = 0.05, 0.2, 0.3, Quadratic()
    weight = problem.weight.detach().clone()

    def clipped(at: torch.Tensor) -> torch.Tensor:
        gradient = problem.gradient(at) + 2 * penalty * at
        return gradient * min(1.0, 2.0 / float(gradient.norm()))

    for _ in range(20):
        gradient = clipped(weight)
        weight = weight - rate * clipped(weight + rho * gradient / gradient.norm())
    recipe = Recipe(
        {"name": "sam", "rho": rho, "base_optimizer": {"name": "sgd", "lr": rate}},
        regularizers=[{"name": "gradient_clip", "maximum": 2.0}, {"name": "l2", "coefficient": penalty}],
    )
    module = recipe.apply(Quadratic())
    make_trainer(max_epochs=1).fit(module, torch.utils.data.DataLoader(torch.zeros(20, 1)))
    torch.testing.assert_close(module.weight.detach(), weight, rtol=0, atol=1e-5)


def test_lookahead_meets_half_way_every_k_steps():
    """Fast weights take k steps, slow ones go α of the way to them (Zhang et al. 2019, algorithm 1)."""
    rate, k, alpha, problem = 0.05, 4, 0.5, Quadratic()
    slow = weight = problem.weight.detach().clone()
    for step in range(1, 21):
        weight = weight - rate * problem.gradient(weight)
        if step % k == 0:
            slow = weight = slow + alpha * (weight - slow)
    lookahead = {"name": "lookahead", "k": k, "alpha": alpha, "base_optimizer": {"name": "sgd", "lr": rate}}
    torch.testing.assert_close(after_steps(lookahead, 20).weight.detach(), weight, rtol=0, atol=1e-6)


def test_schedule_free_sgd_ends_with_the_average():
    """y = (1−β)z + βx, z ← z − lr·∇L(y), x ← mean of the z (Defazio et al. 2024, eq. 3 to 5)."""
    rate, beta, problem = 0.05, 0.9, Quadratic()
    z = x = problem.weight.detach().clone()
    for step in range(1, 21):
        z = z - rate * problem.gradient((1 - beta) * z + beta * x)
        x = x + (z - x) / step
    trained = after_steps({"name": "schedulefreesgd", "lr": rate, "momentum": beta}, 20)
    torch.testing.assert_close(trained.weight.detach(), x, rtol=0, atol=1e-6)


def test_adahessian_sees_the_curvature():
    """Rademacher vectors give a diagonal Hessian exactly: its running mean square after one step is (1−β₂)h²."""
    module = Recipe({"name": "adahessian", "betas": [0.9, 0.99]}).apply(Quadratic(curvature=(2.0, 5.0)))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(1, 1)))
    (state,) = trainer.optimizers[0].state.values()
    expected = 0.01 * torch.tensor([4.0, 25.0], dtype=torch.float64)
    torch.testing.assert_close(state["exp_hessian_diag_sq"], expected, rtol=1e-6, atol=0)


def test_ranger21_knows_the_number_of_steps():
    recipe = Recipe("ranger21")
    module = recipe.apply(UsersModule())
    trainer = make_trainer(max_epochs=3)
    trainer.fit(module, datamodule=UsersData())
    made = trainer.optimizers[0]
    assert made.start_warm_down + made.num_warm_down_iterations == trainer.global_step == 18
    with pytest.raises(UserError, match="'ranger21' needs an end"):
        make_trainer(max_epochs=-1).fit(recipe.apply(UsersModule()), datamodule=UsersData())


# --- hidden matrices ----------------------------------------------------------------------------------------------


class Sentences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(5)
        self.filters = nn.Conv1d(5, 5, 3)
        self.head = nn.Linear(5, 7)


def test_hidden_matrices_leave_out_embeddings_vectors_and_the_output_layer():
    assert hidden_matrices(Sentences()) == {"mix.weight"}
    assert hidden_matrices(Sentences(), most=4) == {"mix.weight", "filters.weight"}
    assert hidden_matrices(nn.Linear(3, 2)) == set()


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_groups_say_which_are_matrices(name):
    optimizer = build_optimizer(Recipe({"name": name, "lr": 0.03, "adamw_lr": 0.004}), Sentences())
    numbers = {}
    for group in optimizer.param_groups:
        numbers.setdefault((group["use_muon"], group["lr"]), []).extend(p.ndim for p in group["params"])
    assert {key: sorted(dimensions) for key, dimensions in numbers.items()} == {
        (True, 0.03): [2, 3],
        (False, 0.004): [1, 1, 1, 1, 1, 2, 2],
    }


def plain_loop(net: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int) -> torch.Tensor:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (net(torch.randn(8, 6, generator=generator)) ** 2).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return parameters_of(net)


def test_muon_is_muon_on_the_matrices_and_adamw_on_the_rest():
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    net = make()
    matrices = [net[0].weight, net[2].weight]
    others = [p for p in net.parameters() if not any(p is matrix for matrix in matrices)]
    decayed = [{"params": [net[4].weight], "weight_decay": 0.1}]
    spared = [{"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0}]
    by_hand = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(decayed + spared, lr=0.005)]
    expected = plain_loop(net, by_hand, 20)

    net = make()
    auxiliary = {"name": "adamw", "lr": 0.005, "weight_decay": 0.1}
    joined = build_optimizer(Recipe({"name": "muon", "lr": 0.02, "auxiliary": auxiliary}), net)
    assert isinstance(joined, MatricesAndRest)
    plain_loop(net, [joined], 10)
    # Half-way through a checkpoint, into another net and another optimizer.
    other = make()
    other.load_state_dict(net.state_dict())
    resumed = build_optimizer(Recipe({"name": "muon", "lr": 0.02, "auxiliary": auxiliary}), other)
    resumed.load_state_dict(joined.state_dict())
    for group in resumed.param_groups:
        assert any(group is its for part in resumed.parts for its in part.param_groups)
    for step in range(10, 20):
        generator = torch.Generator().manual_seed(step)
        resumed.zero_grad()
        (other(torch.randn(8, 6, generator=generator)) ** 2).mean().backward()
        resumed.step()
    torch.testing.assert_close(parameters_of(other), expected, rtol=0, atol=1e-6)


def test_a_schedule_moves_both_parts_of_muon():
    module = Recipe({"name": "muon", "lr": 0.1, "auxiliary": {"name": "sgd", "lr": 0.01}}, "cosine").apply(
        UsersModule()
    )
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=UsersData())
    assert [group["lr"] for part in trainer.optimizers[0].parts for group in part.param_groups] == [0.0] * 2


# --- all that is guaranteed ---------------------------------------------------------------------------------------


def test_about_25_are_guaranteed():
    assert len(GUARANTEED) >= 25
    assert not [name for name in GUARANTEED if OPTIMIZERS[name].unsupported]


@pytest.mark.parametrize("name", GUARANTEED)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(name, tmp_path):
    def make() -> UsersModule:
        L.seed_everything(1, verbose=False)
        return Recipe(name, "cosine").apply(UsersModule())

    keep = ModelCheckpoint(tmp_path, "{epoch}", every_n_epochs=1, save_top_k=-1)
    straight = make()
    make_trainer(max_epochs=3, callbacks=[keep], enable_checkpointing=True).fit(straight, datamodule=Ordered())
    resumed = make()
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.zero_()
    make_trainer(max_epochs=3).fit(
        resumed, datamodule=Ordered(), ckpt_path=tmp_path / "epoch=1.ckpt", weights_only=True
    )
    assert torch.equal(parameters_of(resumed), parameters_of(straight))


class Ordered(UsersData):
    """The same order in every epoch, so that a resumed run sees what an uninterrupted one does."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_set, batch_size=self.batch_size)


@pytest.mark.parametrize("name", GUARANTEED)
def test_it_trains_under_bf16_mixed(name):
    L.seed_everything(1, verbose=False)
    rates = {
        "adadelta": 1.0,
        "adagrad": 0.1,
        "asgd": 0.3,
        "sgd": 0.3,
        "kahan_sgd": 0.3,
        "lion": 1e-2,
        "adabelief": 1e-2,
        "ademamix": 1e-2,
    }
    rates |= {"adopt": 1e-2, "lamb": 1e-2, "radam": 1e-2, "ranger21": 3e-2}
    lr = rates.get(name, {"adahessian": 0.1, "prodigy": 1.0, "schedulefreesgd": 1.0}.get(name, 1e-2))
    module = Recipe({"name": name, "lr": lr}).apply(UsersModule())
    losses = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(float(outputs["loss"]))

    make_trainer(max_epochs=15, precision="bf16-mixed", callbacks=[Losses()]).fit(module, datamodule=UsersData())
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


# --- evaluation weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["schedulefreesgd", "schedulefreeadamw", "splus", "schedulefreewrapper"])
@pytest.mark.parametrize("weights_only", [False, True])
def test_validation_and_every_checkpoint_have_the_evaluation_weights(name, weights_only, tmp_path):
    seen: dict[int, torch.Tensor] = {}

    class Watch(L.Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            seen[trainer.global_step] = parameters_of(pl_module)

    callbacks = [Watch(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1,
                                          save_weights_only=weights_only)]  # fmt: skip
    L.seed_everything(1, verbose=False)
    module = Recipe(name).apply(UsersModule())
    trainer = make_trainer(max_epochs=1, val_check_interval=3, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(module, datamodule=UsersData())
    optimizer = trainer.optimizers[0]
    assert torch.equal(parameters_of(module), seen[6])
    for step in (3, 6):
        other = UsersModule()
        other.load_state_dict(torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)["state_dict"])
        torch.testing.assert_close(parameters_of(other), seen[step], rtol=0, atol=1e-6)
    optimizer.train()
    assert not torch.allclose(parameters_of(module), seen[6], atol=1e-4)


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ({"name": "lookahead", "base_optimizer": "sam"}, "'lookahead' wraps an optimizer without needs of its own"),
        ({"name": "sam", "base_optimizer": "adamv"}, "optimizer.base_optimizer: no optimizer is called 'adamv'"),
        ({"name": "sam", "base_optimizer": {"name": "sgd", "momentun": 0.9}}, "did you mean momentum"),
        ({"name": "sam", "momentum": 0.9}, "optimizer.momentum: takes no 'momentum'; it takes .*base_optimizer"),
        ({"name": "sam", "lr": 0.1, "base_optimizer": {"name": "sgd", "lr": 0.1}}, "optimizer.lr: is given twice"),
        ({"name": "muon", "auxiliary": "muon"}, "'muon' goes beside an optimizer without needs of its own"),
        ({"name": "lion", "learning_rate": 0.1}, "optimizer.learning_rate: takes no 'learning_rate'"),
        ({"name": "sgd", "base_optimizer": "adam"}, "optimizer.base_optimizer: takes no 'base_optimizer'"),
    ],
)
def test_mistakes_are_said_in_one_line(optimizer, said):
    with pytest.raises(UserError, match=said) as caught:
        Recipe(optimizer).validate()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "cosine"},
        {"schedule": {"name": "constant", "warmup": 2}},
        {"schedule": "plateau"},
        {"regularizers": ["weight_decay"]},
        {"parameters": [{"match": "*", "lr_scale": 0.5}]},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_what_acts_on_a_rate_is_refused_where_there_is_none(fields):
    module = Recipe("alig", **fields).apply(UsersModule())
    said = f"{next(iter(fields))}: 'alig' finds its steps by itself"
    with pytest.raises(UserError, match=said):
        make_trainer(max_epochs=1).fit(module, datamodule=UsersData())


def test_muon_needs_a_hidden_matrix():
    module = Classifier("linear", recipe="muon", input_shape=(4,), output_size=2)
    with pytest.raises(UserError, match="'muon' is for matrices between hidden units, and Classifier has none"):
        build_optimizer(module.recipe, module)


def test_adammini_makes_its_own_groups():
    recipe = Recipe("adammini", parameters=[{"match": "net.0.*", "lr": 0.1}])
    with pytest.raises(UserError, match="parameters: 'adammini' makes its own groups"):
        build_optimizer(recipe, UsersModule())


class OnManyDevices:
    world_size = 2
    accumulate_grad_batches = 1
    precision = "32-true"


class UnderAGradientScaler(OnManyDevices):
    world_size = 1
    precision = "16-mixed"


class Accumulating(OnManyDevices):
    world_size = 1
    accumulate_grad_batches = 2


@pytest.mark.parametrize(
    ("name", "trainer", "said"),
    [
        ("sam", Accumulating, "cannot accumulate"),
        ("adahessian", Accumulating, "cannot accumulate"),
        ("sam", UnderAGradientScaler, "cannot run under a gradient scaler; use bf16-mixed"),
        ("lbfgs", UnderAGradientScaler, "cannot run under a gradient scaler; use bf16-mixed"),
        ("sophiah", UnderAGradientScaler, "cannot run under a gradient scaler; use bf16-mixed"),
        ("adahessian", OnManyDevices, "works in one process only"),
    ],
)
def test_what_a_trainer_cannot_give_is_refused(name, trainer, said):
    with pytest.raises(UserError, match=f"'{name}' .*{said}"):
        _check_needs(OPTIMIZERS[name], trainer())


def test_a_backward_of_its_own_is_kept():
    class Own(UsersModule):
        def backward(self, loss, *args, **kwargs):
            loss.backward(*args, **kwargs)

    with pytest.raises(UserError, match="'sophiah' differentiates twice, and Own has a backward of its own"):
        Recipe("sophiah").apply(Own())
    module = Recipe("sophiah").apply(UsersModule())
    assert "backward" in vars(module)
    assert "backward" not in vars(Recipe("adam").apply(module))


def test_decay_among_the_regularizers_goes_to_the_wrapped_optimizer_or_is_refused():
    decay = [{"name": "weight_decay", "coefficient": 0.3}]
    optimizer = build_optimizer(Recipe({"name": "sam", "base_optimizer": "adamw"}, regularizers=decay), UsersModule())
    assert sorted({group["weight_decay"] for group in optimizer.param_groups}) == [0.0, 0.3]
    module = Recipe({"name": "sam", "base_optimizer": "sgd"}, regularizers=decay).apply(UsersModule())
    with pytest.raises(UserError, match="decay would act at each of sam's evaluations"):
        make_trainer().fit(module, datamodule=UsersData())
