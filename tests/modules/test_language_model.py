"""The language model's loss and numbers against NumPy, and against sources whose entropy is known."""

from __future__ import annotations

import math

import lightning as L
import numpy as np
import pytest
import torch
from token_data import PADDING, TokenSeries
from torch import nn
from users_project import make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import LanguageModel, Recipe

FROZEN = Recipe({"name": "sgd", "lr": 0.0})


class Bigram(nn.Module):
    """Logits of the next token from the present one alone."""

    def __init__(self, logits):
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, tokens):
        return self.table[tokens]


def evaluate(module, data):
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return logged | trainer.test(module, datamodule=data, verbose=False)[0]


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Uneven(TokenSeries):
    """Validation in batches of 5, 5 and 4 samples of different lengths."""

    evaluation_batch = 5


@pytest.mark.parametrize("padded", [True, False])
def test_numbers_are_those_of_numpy_over_uneven_batches(padded):
    torch.manual_seed(0)
    table = torch.randn(TokenSeries.vocabulary, TokenSeries.vocabulary)
    data = Uneven(samples=50, batch_size=16, padded=padded)
    logged = evaluate(LanguageModel(Bigram(table), FROZEN), data)
    for split, name in (("train", "train"), ("val", "val"), ("test", "test")):
        inputs, targets = (part.numpy() for part in data.split(split))
        places = targets != PADDING if padded else np.ones_like(targets, bool)
        assert padded == (not places.all())
        nats = -np.take_along_axis(log_softmax(table.double().numpy())[inputs], targets[..., None], 2)[..., 0][places]
        assert logged[f"{name}/loss"] == pytest.approx(nats.mean(), rel=1e-5)
        if split == "train":
            continue
        assert logged[f"{name}/perplexity"] == pytest.approx(np.exp(nats.mean()), rel=1e-5)
        assert logged[f"{name}/bits_per_token"] == pytest.approx(nats.mean() / math.log(2), rel=1e-5)
        size = nats.size * data.bytes_per_token[split]
        assert logged[f"{name}/bits_per_byte"] == pytest.approx(nats.sum() / math.log(2) / size, rel=1e-5)


def test_perplexity_is_torchmetrics():
    from torchmetrics.text import Perplexity

    torch.manual_seed(0)
    net = Bigram(torch.randn(TokenSeries.vocabulary, TokenSeries.vocabulary))
    data = Uneven()
    logged = evaluate(LanguageModel(net, FROZEN), data)
    theirs = Perplexity(ignore_index=PADDING)
    inputs, targets = data.split("val")
    theirs.update(net(inputs).detach(), targets)
    assert logged["val/perplexity"] == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_a_uniform_net_needs_the_logarithm_of_the_vocabulary():
    logged = evaluate(LanguageModel(Bigram(torch.zeros(12, 12)), FROZEN), TokenSeries())
    assert logged["val/bits_per_token"] == pytest.approx(math.log2(12), rel=1e-6)
    assert logged["val/perplexity"] == pytest.approx(12, rel=1e-5)
    assert logged["test/bits_per_byte"] == pytest.approx(math.log2(12) / 4.0, rel=1e-6)


def test_it_learns_a_source_down_to_its_entropy():
    """The walk's next token is one of two, equally likely: one bit."""
    L.seed_everything(0, verbose=False)
    recipe = Recipe({"name": "adam", "lr": 0.3}, batch=100)
    data = TokenSeries(samples=2000, padded=False)
    trainer = make_trainer(max_epochs=8)
    trainer.fit(LanguageModel(Bigram(torch.zeros(12, 12)), recipe), datamodule=data)
    assert float(trainer.callback_metrics["val/bits_per_token"]) == pytest.approx(1.0, abs=0.02)


class NoBytes(TokenSeries):
    """Does not say how many bytes a token has."""

    bytes_per_token = None


class NoTestBytes(TokenSeries):
    """Says it of one split only."""

    bytes_per_token = {"train": 2.0, "val": 2.0}


@pytest.mark.parametrize("data", [NoBytes, NoTestBytes])
def test_without_bytes_there_are_bits_per_token_only(data):
    logged = evaluate(LanguageModel(Bigram(torch.zeros(12, 12)), FROZEN), data())
    assert "val/bits_per_token" in logged
    assert not [name for name in logged if "byte" in name]


def test_bytes_given_as_an_argument_count_before_the_data():
    bytes_per_token = {"val": 1.0, "test": 8.0}
    module = LanguageModel(Bigram(torch.zeros(12, 12)), FROZEN, bytes_per_token=bytes_per_token)
    logged = evaluate(module, TokenSeries())
    assert logged["val/bits_per_byte"] == pytest.approx(math.log2(12))
    assert logged["test/bits_per_byte"] == pytest.approx(math.log2(12) / 8)


def test_images_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"token numbers \(length,\), not samples of shape \(1, 8, 8\)"):
        make_trainer().fit(LanguageModel("gpt2"), datamodule=Digits())
    with pytest.raises(UserError, match=r"needs token numbers \(batch, length\), not float32 \(\d+, 1, 8, 8\)"):
        make_trainer().fit(LanguageModel(nn.Linear(3, 3)), datamodule=Digits())


def test_targets_of_another_length_are_refused():
    module = LanguageModel(Bigram(torch.zeros(12, 12)))
    with pytest.raises(UserError, match=r"a target for each token; there are inputs \(2, 5\) and targets \(2, 7\)"):
        module.compare((torch.ones(2, 5, dtype=torch.long), torch.ones(2, 7, dtype=torch.long)))
    with pytest.raises(UserError, match="two tensors"):
        module.compare(torch.ones(2, 5, dtype=torch.long))


@pytest.mark.parametrize(
    ("regularizer", "extra"),
    [({"name": "confidence_penalty", "coefficient": 0.3}, "entropy"), ({"name": "label_smoothing"}, "uniform")],
)
def test_regularizers_of_the_loss_leave_padding_out(regularizer, extra):
    """The step's gradient is that of the formula over the true tokens alone."""
    torch.manual_seed(0)
    table = torch.randn(12, 12)
    net = Bigram(table.clone())
    data = TokenSeries(samples=30, batch_size=30)
    recipe = Recipe({"name": "sgd", "lr": 1.0}, regularizers=[regularizer])
    make_trainer().fit(LanguageModel(net, recipe), datamodule=data)
    inputs, targets = data.split("train")
    free = table.double().requires_grad_()
    logs = free[inputs[targets != PADDING]].log_softmax(-1)
    true = logs.gather(1, targets[targets != PADDING][:, None]).mean()
    changed = {"entropy": -true + 0.3 * (logs.exp() * logs).sum(-1).mean(), "uniform": -0.9 * true - 0.1 * logs.mean()}
    (gradient,) = torch.autograd.grad(changed[extra], free)
    torch.testing.assert_close(net.table.detach().double(), table.double() - gradient, rtol=0, atol=1e-5)


def bits_of_counts(train, held_out, order, vocabulary):
    """Bits per token of the maximum-likelihood n-gram of so many tokens before, 0.01 added to each count."""
    counts = np.full((vocabulary**order, vocabulary), 0.01)
    weights = vocabulary ** np.arange(order)[::-1]

    def contexts(tokens):
        rows = np.lib.stride_tricks.sliding_window_view(tokens, order + 1)
        return rows[:, :-1] @ weights, rows[:, -1]

    np.add.at(counts, contexts(train), 1)
    shares = counts / counts.sum(1, keepdims=True)
    return -np.log2(shares[contexts(held_out)]).mean()


@pytest.mark.slow
def test_the_suites_model_beats_counts_and_comes_near_the_entropy():
    """lm-tiny's net on its data; counts of two tokens are the bar, the source's entropy is the floor."""
    from trainoff.benchmarks.suite import load_suite
    from trainoff.benchmarks.task_building import build_datamodule, build_module

    (task,) = load_suite("lm-tiny").tasks
    L.seed_everything(0, verbose=False)
    recipe = Recipe({"name": "adamw", "lr": 5e-3}, {"name": "cosine", "warmup": 0.1}, batch=16)
    data = build_datamodule(task.data)
    trainer = make_trainer(max_epochs=task.budget.epochs)
    trainer.fit(build_module(task.module, recipe), datamodule=data)
    found = float(trainer.callback_metrics["val/bits_per_byte"])
    assert data.bytes_per_token["val"] == 1
    tokens = {
        name: torch.cat([data.split(name)[0].flatten(), data.split(name)[1][-1, -1:]]).numpy()
        for name in ("train", "val")
    }
    trigram = bits_of_counts(tokens["train"], tokens["val"], 2, data.output_size)
    fourgram = bits_of_counts(tokens["train"], tokens["val"], 3, data.output_size)
    assert data.entropy_bits_per_byte < found < fourgram < trigram
    assert found < data.entropy_bits_per_byte + 0.3
