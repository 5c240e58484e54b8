"""ddp, FSDP2 and tensor parallelism on two real gloo processes end where one process ends on the same batches."""

from __future__ import annotations

import pytest
import torch

from trainoff.benchmarks.executors.rank_processes import run_on_ranks
from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.nets.bert import Bert
from trainoff.modules.nets.gpt2 import GPT2
from trainoff.modules.nets.linear import Linear
from trainoff.modules.nets.mlp import MLP
from trainoff.modules.nets.vit import VisionTransformer
from trainoff.modules.sharding import tensor_parallel_plan

PRELOAD = ("trainoff.benchmarks.worker",)
STRATEGIES = {
    "ddp": {"name": "ddp", "devices": 2},
    "fsdp2": {"name": "model_parallel", "devices": 2, "data_parallel_size": 2, "tensor_parallel_size": 1},
    "tp": {"name": "model_parallel", "devices": 2, "data_parallel_size": 1, "tensor_parallel_size": 2},
}
OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "adamw": {"name": "adamw", "lr": 1e-3},
    "muon": {"name": "muon", "lr": 0.01},
}


def train(job):
    """Ten steps of a recipe on a net; its parameters, whole, and its validation metrics."""
    import lightning as L
    import torch.optim._muon
    from users_project import make_trainer

    from trainoff.modules import Classifier
    from trainoff.modules.sharded_tensors import whole

    # Newton-Schulz runs in bfloat16, where a last bit of the gradient may turn a rounding: here in float64.
    torch.optim._muon._zeropower_via_newtonschulz = newton_schulz
    recipe, net, data, steps = job
    L.seed_everything(4, verbose=False)
    recipe = Recipe(**recipe)
    module = Classifier(net, recipe)
    initial = []
    trainer = make_trainer(
        max_epochs=-1, max_steps=steps, callbacks=[First(initial)], num_sanity_val_steps=0,
        check_val_every_n_epoch=None, val_check_interval=steps * recipe.microbatches, use_distributed_sampler=False,
        **{"devices": 1, **recipe.trainer_arguments()},
    )  # fmt: skip
    trainer.fit(module, datamodule=data())
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    state = {name: whole(parameter.detach()).double() for name, parameter in module.named_parameters()}
    assert trainer.global_step == steps
    return initial[0], state, metrics


def digits():
    from trainoff.datamodules import Digits

    return Digits(val_fraction=0.1, test_fraction=0.151)


class First:
    """Made into a callback in the process that trains: keeps the initial parameters, whole."""

    def __new__(cls, kept):
        import lightning as L

        from trainoff.modules.sharded_tensors import whole

        class Keep(L.Callback):
            def on_train_start(self, trainer, pl_module):
                kept.append({name: whole(p.detach()).double() for name, p in pl_module.named_parameters()})

        return Keep()


def newton_schulz(grad, coefficients, steps, eps):
    a, b, c = coefficients
    x = grad.double()
    x = x.T if grad.size(0) > grad.size(1) else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if grad.size(0) > grad.size(1) else x).to(grad.dtype)


def train_each(jobs):
    from trainoff.benchmarks.quiet import quiet

    with quiet():
        return [train(job) for job in jobs]


def on_two(jobs):
    first, second = run_on_ranks(train_each, jobs, 2, PRELOAD)
    for rank in (first, second):
        assert rank.error is None, rank.traceback
    for (_, mine, seen), (_, theirs, seen_too) in zip(first.result, second.result, strict=True):
        assert seen == seen_too
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    return first.result


def on_one(jobs):
    (rank,) = run_on_ranks(train_each, jobs, 1, PRELOAD)
    assert rank.error is None, rank.traceback
    return rank.result


def compare(recipes, net, data=digits, steps=10, atol=1e-6, strategies=tuple(STRATEGIES)):
    """Each strategy's recipes against the same ones of one process."""
    alone = on_one([(recipe, net, data, steps) for recipe in recipes])
    for name in strategies:
        together = on_two([({**recipe, "strategy": STRATEGIES[name]}, net, data, steps) for recipe in recipes])
        for recipe, (start, end, seen), (initial, expected, metrics) in zip(recipes, together, alone, strict=True):
            where = f"{name} {recipe}"
            assert all(torch.equal(start[key], initial[key]) for key in initial), where
            # A key's bias changes no softmax: its gradient is what rounding leaves, which Adam's kind makes a step of.
            names = [key for key in expected if not key.endswith("key.bias")]
            apart = max(float((end[key] - expected[key]).abs().max()) for key in names)
            assert apart <= atol, f"{where}: {apart}"
            assert seen["val/accuracy"] == metrics["val/accuracy"], where
            assert seen["val/loss"] == pytest.approx(metrics["val/loss"], abs=1e-6), where


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [1, 2])
def test_two_processes_are_one(microbatches):
    """With l2 and clipping; 359 samples validate, which two do not divide."""
    regularizers = [{"name": "l2", "coefficient": 1e-3}, {"name": "gradient_clip", "maximum": 0.5}]
    recipes = [
        {"optimizer": optimizer, "schedule": "cosine", "regularizers": regularizers, "batch": 64,
         "microbatches": microbatches}
        for optimizer in OPTIMIZERS.values()
    ]  # fmt: skip
    compare(recipes, {"name": "mlp", "hidden": [16, 12]})


@pytest.mark.slow
def test_transformers_and_every_optimizer_for_shards():
    """Attention is split by heads; other nets are sharded whole. Three steps, so that Adam's kind stays comparable."""
    from trainoff.modules.sharded_recipes import OPTIMIZERS_ON_SHARDS

    rates = {"adadelta": {}, "muon": {"lr": 0.01}}
    recipes = [
        {"optimizer": {"name": name, **rates.get(name, {"lr": 1e-3})}, "batch": 64, "regularizers": ["elastic_net"]}
        for name in OPTIMIZERS_ON_SHARDS
    ]
    net = {"name": "vit_tiny", "patch": 4, "width": 8, "depth": 1, "heads": 2, "hidden": 12}
    compare(recipes, net, steps=3, atol=2e-6, strategies=("fsdp2", "tp"))


@pytest.mark.slow
def test_a_convolutional_net_is_sharded_whole():
    """Batch norm sees each process' part, so that two processes are not one: they agree with each other."""
    recipe = {"optimizer": OPTIMIZERS["sgd"], "batch": 64, "strategy": STRATEGIES["fsdp2"]}
    ((_, end, _),) = on_two([(recipe, {"name": "mlp", "hidden": [16], "norm": "batch"}, digits, 5)])
    assert len(end) == 6


@pytest.mark.parametrize(
    ("net", "layers"),
    [
        (
            MLP((4,), 3, hidden=[8, 8, 8]),
            {"hidden.0.0": "Col", "hidden.1.0": "Row", "hidden.2.0": "Col", "output": "Row"},
        ),
        (MLP((4,), 3, hidden=[8, 8]), {"hidden.0.0": "Col", "hidden.1.0": "Row"}),
    ],
)
def test_layers_are_split_in_pairs(net, layers):
    plan = tensor_parallel_plan(net, 2)
    assert {name: type(style).__name__[:3] for name, style in plan.items()} == layers


@pytest.mark.parametrize("make", [
    lambda: GPT2((6,), 11, width=8, depth=2, heads=2, dropout=0.0),
    lambda: Bert((6,), 11, width=8, depth=2, heads=2, dropout=0.0),
    lambda: VisionTransformer((1, 8, 8), 10, patch=4, width=8, depth=2, heads=2),
])  # fmt: skip
def test_every_block_of_a_transformer_is_split(make):
    names = list(tensor_parallel_plan(make(), 2))
    assert len(names) == 2 * (4 + 2)


@pytest.mark.parametrize(
    ("net", "devices", "message"),
    [
        (lambda: Linear((4,), 3), 2, "Linear has no layers that split, which mlp, gpt2"),
        (lambda: MLP((4,), 3, hidden=[7]), 2, "2 devices do not divide 7 hidden units"),
        (lambda: MLP((4,), 3, hidden=[8], norm="layer"), 2, "a norm over hidden units"),
        (lambda: MLP((4,), 3, hidden=[8], dropout=0.1), 2, "split layers would draw dropout apart"),
        (lambda: GPT2((6,), 11, width=9, depth=1, heads=3, dropout=0.0), 2, "2 devices do not divide 3 heads"),
    ],
)
def test_what_cannot_be_split_is_refused(net, devices, message):
    with pytest.raises(UserError, match=message):
        tensor_parallel_plan(net(), devices)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"regularizers": ["ema"]}, r"regularizers\[0\]: model_parallel shards the parameters, and 'ema' needs them"),
        ({"regularizers": ["l2", "ewc"]}, r"regularizers\[1\]: model_parallel shards"),
        ({"regularizers": ["dropout"]}, "split layers would draw 'dropout' apart; use data_parallel_size"),
        ({"regularizers": [{"name": "gradient_clip", "by": "unit"}]}, r"clipping by unit needs them whole"),
        ({"optimizer": "lbfgs"}, "optimizer: model_parallel shards the parameters; 'lbfgs' needs them whole, sgd, "),
        ({"pruning": "magnitude"}, "pruning: model_parallel shards"),
        ({"precision": "64-true"}, "precision: model_parallel runs in 32-true"),
    ],
)
def test_what_does_not_go_with_shards_is_refused(recipe, message):
    with pytest.raises(UserError, match=message):
        Recipe(**recipe, strategy=STRATEGIES["tp"]).validate()


def test_fsdp_shows_flat_pieces():
    Recipe(strategy="fsdp", regularizers=["l2"]).validate()
    with pytest.raises(UserError, match="fsdp shards the parameters, and 'gradient_clip' needs them whole"):
        Recipe(strategy="fsdp", regularizers=["gradient_clip"]).validate()
