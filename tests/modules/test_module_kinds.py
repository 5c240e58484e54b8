"""What every kind of LightningModule promises: recipes, checkpoints, resumption, parts of batches, refusals."""

from __future__ import annotations

import inspect

import lightning as L
import pytest
import torch
from token_data import ReversedTokens, TokenSeries
from users_project import make_trainer, parameters_of

from trainoff.benchmarks.randomness import DerivedGenerators
from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import (
    GAN,
    MODULES,
    Classifier,
    LanguageModel,
    MaskedLanguageModel,
    Recipe,
    RecipeModule,
    Regressor,
    Seq2Seq,
)
from trainoff.modules.nets import DCGAN

MLP = {"name": "mlp", "hidden": [16]}
SMALL = {"width": 16, "depth": 1, "heads": 2, "dropout": 0.0}
KINDS = {
    "classifier": (Classifier, MLP, Digits),
    "regressor": (Regressor, MLP, Diabetes),
    "language_model": (LanguageModel, {"name": "gpt2", **SMALL}, TokenSeries),
    "masked_language_model": (MaskedLanguageModel, {"name": "bert", **SMALL}, TokenSeries),
    "seq2seq": (Seq2Seq, {"name": "transformer", **SMALL}, ReversedTokens),
    "seq2seq-lstm": (Seq2Seq, {"name": "seq2seq_lstm", "width": 16, "depth": 1, "attention": "luong"}, ReversedTokens),
}
TOKENS = [name for name in KINDS if "language" in name or "seq2seq" in name]
ON_NUMBERS = {"input_noise", "cutout", "mixup", "cutmix", "gradient_penalty", "r1"}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def make(kind, recipe, seed=11):
    factory, net, _ = kind
    L.seed_everything(seed, verbose=False)
    return factory(net, recipe=recipe)


def outputs(module, data):
    """On validation, in eval mode."""
    with torch.no_grad():
        return module.eval().compare(data.split("val"))[0]


def test_every_kind_is_tested():
    """GAN has files of its own: it optimizes by hand."""
    assert {entry.name for entry in MODULES if not entry.package} - {"gan"} == {n for n in KINDS if "-" not in n}


def test_a_checkpoint_loads_alone(kind, tmp_path):
    """Without arguments, with ``weights_only=True``; it then evaluates other data as it would have."""
    factory, _, make_data = kind
    recipe = Recipe(
        {"name": "adamw", "lr": 3e-3}, {"name": "cosine", "warmup": 0.2}, ["l2", "gradient_clip"], batch=16
    )
    module, data = make(kind, recipe), make_data()
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    reloaded = factory.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert dict(reloaded.hparams) == dict(module.hparams)
    assert Recipe.of(reloaded.recipe) == recipe
    torch.testing.assert_close(outputs(reloaded, data), outputs(module, data), rtol=0, atol=0)
    tests = [make_trainer().test(one, data.test_dataloader(), verbose=False)[0] for one in (module, reloaded)]
    assert tests[0] == tests[1]


class SaveAt(L.Callback):
    """Saves a checkpoint at a step, and draws random numbers as others may."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("batches", [1, 1.5], ids=["at an epoch's end", "within an epoch"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_ends_at_the_same_parameters(kind, optimizer, batches, tmp_path):
    """Bitwise, whatever has drawn random numbers in the meantime."""
    L.seed_everything(11, verbose=False)  # of the order
    data = kind[2]()
    steps = -(-len(data.split("train")[0]) // 16)
    recipe = Recipe({"name": optimizer, "lr": 1e-2}, {"name": "cosine", "warmup": 2}, ["l2"], batch=16)
    whole = make(kind, recipe)
    saving = SaveAt(tmp_path / "half.ckpt", int(steps * batches))
    make_trainer(max_epochs=3, callbacks=[saving]).fit(whole, datamodule=data)
    second = make(kind, recipe)
    torch.rand(7)
    trainer = make_trainer(max_epochs=3)
    trainer.fit(second, datamodule=kind[2](), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert trainer.global_step == 3 * steps
    assert torch.equal(parameters_of(whole), parameters_of(second))


def test_with_dropout_too_where_each_epoch_has_its_own_random_numbers(kind, tmp_path):
    """As a suite's trials have them."""
    L.seed_everything(11, verbose=False)  # of the order
    data = kind[2]()
    steps = -(-len(data.split("train")[0]) // 16)
    recipe = Recipe({"name": "adamw", "lr": 1e-2}, regularizers=[{"name": "dropout", "p": 0.3}], batch=16)
    whole = make(kind, recipe)
    saving = SaveAt(tmp_path / "half.ckpt", steps)
    make_trainer(max_epochs=3, callbacks=[DerivedGenerators(7), saving]).fit(whole, datamodule=data)
    second = make(kind, recipe)
    trainer = make_trainer(max_epochs=3, callbacks=[DerivedGenerators(7)])
    trainer.fit(second, datamodule=kind[2](), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert torch.equal(parameters_of(whole), parameters_of(second))


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_are_the_undivided_batch(kind, parts):
    """Also where they hold different numbers of tokens; hidden places are the same."""
    trained = []
    for microbatches in (1, parts):
        recipe = Recipe({"name": "sgd", "lr": 0.1}, regularizers=["l2"], batch=16, microbatches=microbatches)
        module = make(kind, recipe)
        make_trainer(max_epochs=2, **recipe.trainer_arguments()).fit(module, datamodule=kind[2]())
        trained.append(parameters_of(module))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6)


REGULARIZERS = [
    "l1", "dropout", "drop_path", "label_smoothing", "confidence_penalty", "curriculum", "gradient_noise",
    "gradient_centralization", "gradient_clip", "spike_guard", "sam", "lookahead", "orthogonal", "spectral_norm",
    {"name": "max_norm", "maximum": 0.05}, {"name": "ema", "decay": 0.9}, {"name": "swa", "start": 0.3},
    {"name": "weight_decay", "coefficient": 0.5}, {"name": "ewc", "samples": 5},
]  # fmt: skip


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=str)
@pytest.mark.parametrize("name", TOKENS)
def test_regularizers_act_on_tokens(name, regularizer):
    """Those that make sense change the training and leave finite parameters; of a cross-entropy they need no more."""
    if name == "seq2seq-lstm" and regularizer == "drop_path":
        pytest.skip("has no residual branches")
    trained = []
    for regularizers in ([], [regularizer]):
        module = make(KINDS[name], Recipe({"name": "adamw", "lr": 1e-2}, regularizers=regularizers, batch=16))
        make_trainer(max_epochs=3).fit(module, datamodule=KINDS[name][2]())
        trained.append(parameters_of(module))
    assert trained[1].isfinite().all()
    if regularizer not in ("gradient_clip", "spike_guard") and "ewc" not in str(regularizer):
        assert not torch.equal(*trained)


@pytest.mark.parametrize("regularizer", sorted(ON_NUMBERS - {"r1"}))
@pytest.mark.parametrize("name", TOKENS)
def test_what_changes_numbers_is_refused(name, regularizer):
    module = make(KINDS[name], Recipe("sgd", regularizers=[regularizer], batch=16))
    with pytest.raises(UserError, match="token numbers") as raised:
        make_trainer().fit(module, datamodule=KINDS[name][2]())
    assert regularizer in str(raised.value)


@pytest.mark.parametrize("name", TOKENS)
def test_a_teacher_of_itself_changes_the_loss_by_alpha_alone(name, tmp_path):
    """The teacher is the student at the start: the divergence and its gradient are 0 at the first step."""
    kind = KINDS[name]
    module = make(kind, Recipe({"name": "sgd", "lr": 0.0}, batch=48))
    trainer = make_trainer()
    trainer.fit(module, datamodule=kind[2]())
    trainer.save_checkpoint(tmp_path / "teacher.ckpt")
    registered = name.partition("-")[0]
    distilled = {
        "name": "distillation",
        "teacher": str(tmp_path / "teacher.ckpt"),
        "module": registered,
        "alpha": 0.25,
    }
    trained = []
    for regularizers, rate in (([distilled], 0.1), ([], 0.075)):
        student = make(kind, Recipe({"name": "sgd", "lr": rate}, regularizers=regularizers, batch=48))
        make_trainer().fit(student, datamodule=kind[2]())
        trained.append(parameters_of(student))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("optimizer", ["muon", "lion", {"name": "lbfgs", "max_iter": 3}, "sgd"], ids=str)
def test_optimizers_of_all_sorts_train_them(name, optimizer):
    module = make(KINDS[name], Recipe(optimizer, batch=48))
    trainer = make_trainer(max_epochs=3)
    before = make_trainer()
    data = KINDS[name][2]()
    before.fit(make(KINDS[name], Recipe({"name": "sgd", "lr": 0.0})), datamodule=data)
    trainer.fit(module, datamodule=KINDS[name][2]())
    assert float(trainer.callback_metrics["train/loss"]) < float(before.callback_metrics["train/loss"]) + 0.05


@pytest.mark.parametrize(
    ("module", "data", "part"),
    [
        ("classifier", TokenSeries, r"a classifier gives one class a sample; here are token numbers"),
        ("regressor", TokenSeries, r"a regressor needs numbers to come close to; here are token numbers"),
        ("classifier", ReversedTokens, "language_model, masked_language_model or seq2seq learns"),
        ("masked_language_model", Digits, r"token numbers \(length,\), not samples"),
        ("seq2seq", Digits, r"token numbers \(length,\), not samples"),
        ("masked_language_model", ReversedTokens, "needs mask_id, and ReversedTokens has none"),
    ],
)
def test_data_of_another_kind_are_refused_in_one_line(module, data, part):
    factory, net, _ = KINDS[module]
    with pytest.raises(UserError, match=part) as raised:
        make_trainer().fit(factory(net), datamodule=data())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("entry", [e for e in MODULES if not e.package], ids=lambda e: e.name)
def test_arguments_are_kept_and_documented(entry):
    """LightningCLI shows each argument by its signature; checkpoints give all of them back."""
    factory = entry.load()
    if not issubclass(factory, RecipeModule):
        pytest.skip("is tested in a file of its own")
    net = DCGAN((1, 8, 8), 1, width=4) if issubclass(factory, GAN) else torch.nn.Linear(3, 3)
    module = factory(net)
    parameters = inspect.signature(factory).parameters
    assert set(module.hparams) == {name for name in parameters if name != "options"}


@pytest.mark.parametrize("devices", [2])
@pytest.mark.parametrize("name", ["language_model", "masked_language_model", "seq2seq"])
@pytest.mark.slow
def test_evaluation_on_two_processes_is_that_on_one(name, devices):
    """Every metric, on splits that two processes do not share equally."""
    kind = KINDS[name]
    logged = []
    for count in (1, devices):
        L.seed_everything(3, verbose=False)
        module = kind[0](kind[1], Recipe({"name": "sgd", "lr": 0.0}, batch=16))
        trainer = make_trainer(devices=count, **({"strategy": "ddp_spawn"} if count > 1 else {}))
        trainer.fit(module, datamodule=kind[2]())
        logged.append({key: float(value) for key, value in trainer.callback_metrics.items()})
    assert logged[0].keys() == logged[1].keys()
    for key in set(logged[0]) - {"train/loss"}:
        assert logged[1][key] == pytest.approx(logged[0][key], rel=1e-5), key
