"""What the engine records, against the same numbers computed by hand from the same parameters."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from users_project import UsersData

from trainoff.benchmarks.engines.evaluation import train_eval_loader
from trainoff.benchmarks.engines.trainer import Surroundings, _Training, train
from trainoff.benchmarks.meters.memory import peak_bytes, reset_peak
from trainoff.benchmarks.meters.stability import count_spikes
from trainoff.benchmarks.meters.time import TimeMeter
from trainoff.benchmarks.trial import Budget, Task, Trial
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Recipe

MLP = {"name": "mlp", "hidden": [24, 16]}
USERS = {
    "module": {"class_path": "users_project.UsersModule", "init_args": {}},
    "data": {"class_path": "users_project.UsersData", "init_args": {}},
    "metric": "acc",
}


def make_trial(recipe=None, budget=None, seed=0, **task):
    """A trial on digits, or on what the keywords say."""
    fields = {
        "name": "task",
        "module": {"name": "classifier", "net": MLP},
        "data": {"name": "digits"},
        "metric": "accuracy",
        "mode": "max",
        "budget": budget or Budget(epochs=3),
        **task,
    }
    setting = Recipe.of(recipe or {"optimizer": {"name": "adamw", "lr": 3e-3}, "batch": 64}).to_dict()
    return Trial("suite", Task(**fields), "recipe", setting, {}, "final", seed, "", {})


def by_hand(module, inputs, targets):
    """Accuracy and cross-entropy of a module's present parameters."""
    module.eval()
    with torch.no_grad():
        outputs = module.net(inputs)
    return (outputs.argmax(1) == targets).double().mean().item(), F.cross_entropy(outputs, targets).item()


@pytest.fixture(scope="module")
def training():
    """A training that overfits a little, so that the best epoch is not the last."""
    made = _Training(make_trial({"optimizer": {"name": "adamw", "lr": 0.05}, "batch": 32}, Budget(epochs=8), seed=3))
    made.run()
    return made


def test_scores_are_those_of_the_best_and_of_the_last_parameters(training):
    data = Digits()
    data.setup()
    test, train_part = data.split("test"), [part[: len(data.split("test")[0])] for part in data.split("train")]
    quality = training.quality
    last_state = {key: value.clone() for key, value in training.module.state_dict().items()}
    states = {"last": (last_state, quality.last), "best": (training.curves.best_state, quality.best)}
    assert quality.best_epoch < 8, "the two states are one, so half of this tests nothing"
    for state, scores in states.values():
        training.module.load_state_dict(state)
        for split, found in (("val", scores.val), ("test", scores.test), ("train", scores.train)):
            tensors = train_part if split == "train" else test if split == "test" else data.split("val")
            accuracy, loss = by_hand(training.module, *tensors)
            assert found.metric == pytest.approx(accuracy, abs=1e-6)
            assert found.loss == pytest.approx(loss, rel=1e-5)
    training.module.load_state_dict(last_state)


def test_the_best_epoch_is_the_first_with_the_best_validation_metric(training):
    curve = training.curves.curves.val_metric
    assert training.quality.best_epoch == curve.index(max(curve)) + 1
    assert training.quality.best.val.metric == max(curve)


def test_curves_have_a_value_an_epoch(training):
    curves = training.curves.curves
    lengths = {name: len(getattr(curves, name)) for name in curves.__struct_fields__}
    assert set(lengths.values()) == {8}, lengths
    weights = torch.cat([p.detach().flatten() for p in training.module.parameters()])
    assert curves.weight_norm[-1] == pytest.approx(weights.norm().item(), rel=1e-5)
    assert curves.learning_rate == [pytest.approx(0.05)] * 8


def test_a_step_may_differentiate_with_autograd_grad():
    """Counting operations must not forbid it: twice as many and more, as the penalty is differentiated again."""
    plain = train(make_trial({"batch": 64}, Budget(epochs=1)), Surroundings())
    twice = train(make_trial({"regularizers": ["gradient_penalty"], "batch": 64}, Budget(epochs=1)), Surroundings())
    assert twice.status == "ok", twice.error
    assert 2 * plain.cost.flops_per_sample < twice.cost.flops_per_sample < 6 * plain.cost.flops_per_sample


def test_an_optimizer_without_a_rate_leaves_a_record():
    record = train(make_trial({"optimizer": "alig", "batch": 64}, Budget(epochs=2)), Surroundings())
    assert record.status == "ok"
    assert record.curves.learning_rate == [None, None]


@pytest.mark.parametrize("microbatches", [1, 3])
def test_the_training_loss_is_the_mean_over_samples(microbatches):
    """With a rate of 0 the net stays as it is, so that the epoch's mean is the loss of all samples."""
    recipe = {"optimizer": {"name": "sgd", "lr": 0.0}, "batch": 64, "microbatches": microbatches}
    training = _Training(make_trial(recipe, Budget(epochs=1)))
    training.run()
    _, expected = by_hand(training.module, *training.trainer.datamodule.split("train"))
    assert training.curves.curves.train_loss == [pytest.approx(expected, rel=1e-5)]


def test_overfitting_is_arithmetic_on_the_scores():
    record = train(
        make_trial({"optimizer": {"name": "adamw", "lr": 0.05}, "batch": 32}, Budget(epochs=8), seed=3), Surroundings()
    )
    last, losses = record.quality.last, record.curves.val_loss
    assert record.overfitting.gap_metric == pytest.approx(last.train.metric - last.test.metric)
    assert record.overfitting.gap_loss == pytest.approx(last.test.loss - last.train.loss)
    assert record.overfitting.onset_epoch == losses.index(min(losses)) + 1
    assert record.overfitting.val_loss_rise == pytest.approx(losses[-1] - min(losses))


def test_costs_that_have_closed_forms():
    record = train(make_trial(budget=Budget(epochs=2)), Surroundings())
    widths = [64, 24, 16, 10]
    weights = [a * b for a, b in itertools.pairwise(widths)]
    parameters = sum(weights) + sum(widths[1:])
    assert record.cost.parameters == parameters
    # A multiply and an add a weight forward; the same for the weights' gradients, and for all inputs' but the first's.
    assert record.cost.flops_per_sample == 2 * sum(weights) * 2 + 2 * sum(weights[1:])
    # Adam keeps two numbers a parameter, and a step counter a tensor.
    assert record.cost.optimizer_state_bytes == 2 * 4 * parameters + 4 * 6
    samples = len(UsersDigits.train())
    assert record.cost.steps == 2 * math.ceil(samples / 64)
    assert record.cost.checkpoint_bytes > 3 * 4 * parameters


class UsersDigits:
    """The training split of digits."""

    @staticmethod
    def train():
        data = Digits()
        data.setup()
        return data.split("train")[0]


def test_time_to_target_is_where_the_curve_first_reached_it():
    record = train(make_trial(budget=Budget(epochs=6), target=0.8), Surroundings())
    first = next(i for i, value in enumerate(record.curves.val_metric) if value >= 0.8)
    assert record.cost.epochs_to_target == first + 1
    assert record.cost.steps_to_target == record.curves.steps[first]
    assert record.cost.seconds_to_target == pytest.approx(record.curves.train_seconds[first], abs=0.05)
    unreached = train(make_trial(budget=Budget(epochs=1), target=2.0), Surroundings())
    assert unreached.cost.seconds_to_target is None


def test_a_budget_of_steps_may_end_within_an_epoch():
    record = train(make_trial(budget=Budget(steps=25)), Surroundings())
    assert (record.status, record.cost.steps) == ("ok", 25)
    assert record.quality.last.val.metric is not None
    assert record.quality.last.test.metric is not None
    assert record.curves.steps == [17, 25]
    assert len(record.curves.val_loss) == len(record.curves.train_loss) == 2


@pytest.mark.parametrize("steps", [5, 20])
def test_the_state_at_the_end_of_a_budget_of_steps_may_be_the_best(steps):
    """Also where no epoch ended before it: without that there would be no headline and nothing to choose by."""
    quality = train(make_trial(budget=Budget(steps=steps)), Surroundings()).quality
    assert quality.best_epoch == (1 if steps == 5 else 2)
    assert quality.best == quality.last
    assert quality.best.test.metric is not None


def test_a_short_budget_of_steps_says_a_wrong_metric_too():
    with pytest.raises(UserError, match="logs no validation metric 'acuracy'; it logs val/accuracy"):
        train(make_trial(budget=Budget(steps=5), metric="acuracy"), Surroundings())


def test_a_budget_of_seconds_ends_the_training():
    record = train(make_trial(budget=Budget(seconds=0.3)), Surroundings())
    assert record.status == "ok"
    assert record.cost.train_seconds >= 0.3
    assert record.cost.epochs > 1


def test_until_convergence_ends_at_a_short_gradient():
    """Full-batch gradient descent on a convex problem; the gradient at the end by autograd."""
    trial = make_trial(
        {
            "optimizer": {"name": "sgd", "lr": 0.5},
            "batch": "full",
            "regularizers": [{"name": "l2", "coefficient": 0.05}],
        },
        Budget(epochs=2000, gradient_norm=1e-3),
        module={"name": "classifier", "net": "linear"},
        data={"name": "wine"},
    )
    training = _Training(trial)
    training.run()
    assert training.trainer.global_step < 2000
    data = training.trainer.datamodule
    loss = F.cross_entropy(training.module.net(data.split("train")[0]), data.split("train")[1])
    loss = loss + 0.05 * sum((p**2).sum() for p in training.module.net.parameters())
    gradients = torch.autograd.grad(loss, list(training.module.net.parameters()))
    assert torch.cat([g.flatten() for g in gradients]).norm() <= 1e-3


def test_divergence_stops_at_once():
    record = train(make_trial({"optimizer": {"name": "sgd", "lr": 1e12}, "batch": 64}), Surroundings())
    assert record.status == "diverged"
    assert record.error.type == "Diverged"
    # The step after the last finite one was the last.
    assert record.stability.last_finite_step in (record.cost.steps - 1, record.cost.steps)
    assert record.cost.steps < 17


def test_a_users_project_with_names_of_its_own():
    """`metric: acc` finds `val_acc` and `test_acc`; the train loader's dataset gives the train scores."""
    record = train(make_trial({"optimizer": {"name": "adamw", "lr": 0.05}}, **USERS, target=None), Surroundings())
    assert record.status == "ok", record.error
    assert record.quality.last.test.metric is not None
    assert record.quality.last.train.loss is not None


def test_a_metric_that_is_not_logged_is_said_with_those_that_are():
    with pytest.raises(UserError, match=r"'f1'; it logs val_acc, val_loss") as caught:
        train(make_trial(**{**USERS, "metric": "f1"}), Surroundings())
    assert "\n" not in str(caught.value)


def test_train_scores_of_a_foreign_datamodule_come_from_as_many_samples_as_test_has():
    data = UsersData(samples=96)
    loader = train_eval_loader(data)
    assert len(loader.dataset) == len(data.held_out)
    assert sorted(loader.dataset.indices) == sorted(train_eval_loader(UsersData(samples=96)).dataset.indices)


def _same(first, second):
    return first.trial.initial_state_digest == second.trial.initial_state_digest and (
        first.trial.order_digest == second.trial.order_digest
    )


def test_recipes_of_a_seed_start_equal_and_see_the_same_order():
    """Also where a recipe draws random numbers (dropout) or changes the net's arguments' meaning (none here)."""
    recipes = [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "schedule": "cosine"},
        {"optimizer": "sgd", "regularizers": [{"name": "dropout", "p": 0.5}, "label_smoothing", "l1"]},
        {"optimizer": "rmsprop", "batch": 16},
    ]
    records = [train(make_trial(recipe, Budget(epochs=1)), Surroundings()) for recipe in recipes]
    assert all(record.status == "ok" for record in records)
    assert all(_same(records[0], record) for record in records)
    other_seed = train(make_trial(recipes[0], Budget(epochs=1), seed=1), Surroundings())
    assert other_seed.trial.initial_state_digest != records[0].trial.initial_state_digest
    assert other_seed.trial.order_digest != records[0].trial.order_digest
    initialised = train(
        make_trial({"optimizer": "sgd", "initialisation": "kaiming"}, Budget(epochs=1)), Surroundings()
    )
    assert initialised.trial.initial_state_digest != records[0].trial.initial_state_digest
    assert initialised.trial.order_digest == records[0].trial.order_digest


@pytest.mark.parametrize("regularizers", [[], [{"name": "dropout", "p": 0.5}]])
def test_a_foreign_dataloaders_order_does_not_depend_on_what_the_recipe_draws(regularizers):
    """torch's DataLoader takes its order from the global generator, which dropout advances."""
    task = {**USERS, "module": {"class_path": "users_project.OrderWatcher", "init_args": {}}}
    training = _Training(make_trial({"optimizer": "sgd", "regularizers": regularizers}, **task))
    training.run()
    plain = _Training(make_trial({"optimizer": "sgd"}, **task))
    plain.run()
    assert len(training.module.seen) == 18
    assert training.module.seen == plain.module.seen


def test_two_runs_of_a_trial_are_bitwise_equal():
    trial = make_trial({"optimizer": "adamw", "regularizers": ["dropout"], "batch": 32})
    first, second = train(trial, Surroundings()), train(trial, Surroundings())
    assert first.quality == second.quality
    assert first.overfitting == second.overfitting
    for name in ("train_loss", "val_loss", "val_metric", "gradient_norm", "weight_norm", "learning_rate", "steps"):
        assert getattr(first.curves, name) == getattr(second.curves, name), name


def test_peak_memory_is_the_trials_own():
    """`ru_maxrss` never falls; a small trial after a large one must not inherit its peak."""
    device = torch.device("cpu")
    reset_peak(device)
    large = torch.ones(60_000_000)  # 240 MB
    peak_with = peak_bytes(device)
    del large
    reset_peak(device)
    assert peak_bytes(device) < peak_with - 200_000_000


def test_spikes():
    assert count_spikes([1.0, 0.5, 0.9, 0.4, 1.0, None, 0.81]) == 2
    assert count_spikes([]) == 0


def test_quantiles_and_throughput_of_known_steps():
    meter = TimeMeter()
    assert (meter.quantile(0.5), meter.throughput()) == (None, None)
    meter.step_seconds = [0.01 * step for step in range(1, 101)]
    assert meter.quantile(0.5) == pytest.approx(0.505)
    assert meter.quantile(0.95) == pytest.approx(0.9505)
