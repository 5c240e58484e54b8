"""Sequence to sequence: teacher forcing, and the scores of what is written."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from token_data import BEGIN, END, PADDING, ReversedTokens
from torch import nn
from torchmetrics.functional.text import bleu_score
from users_project import make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe, Seq2Seq

TRANSFORMER = {"name": "transformer", "width": 16, "depth": 1, "heads": 2, "dropout": 0.0}
FROZEN = Recipe({"name": "sgd", "lr": 0.0})


class Uneven(ReversedTokens):
    """Validation in batches of 5, 5 and 4."""

    evaluation_batch = 5


class Reverses(nn.Module):
    """Writes the source backwards, right for ``right`` first tokens of the vocabulary; has no step by step form."""

    def __init__(self, right=9):
        super().__init__()
        self.right = right
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, source, target_inputs):
        lengths = (source != PADDING).sum(1)
        logits = torch.zeros(*target_inputs.shape, 9)
        for row, length in enumerate(lengths.tolist()):
            answer = [*source[row, :length].flip(0).tolist(), END]
            for place in range(target_inputs.shape[1]):
                token = answer[place] if place < len(answer) else PADDING
                logits[row, place, token if token < self.right else 4] = 3.0
        return logits * self.scale


def test_loss_and_token_accuracy_leave_padding_out():
    L.seed_everything(0, verbose=False)
    module, data = Seq2Seq(TRANSFORMER, FROZEN), Uneven()
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    source, targets = data.split("val")
    logits = module.eval().net(source, targets[:, :-1]).detach().double().numpy()
    true = targets[:, 1:].numpy()
    places = true != PADDING
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(logs, true[..., None], 2)[..., 0]
    logged = trainer.callback_metrics
    assert float(logged["val/loss"]) == pytest.approx(nats[places].mean(), rel=1e-5)
    right = (logits.argmax(-1) == true)[places]
    assert float(logged["val/token_accuracy"]) == pytest.approx(right.mean(), rel=1e-6)
    source, targets = data.split("train")
    with torch.no_grad():
        logs = module.net(source, targets[:, :-1]).log_softmax(-1)
    true = targets[:, 1:]
    expected = -logs.gather(2, true[..., None])[..., 0][true != PADDING].mean()
    torch.testing.assert_close(logged["train/loss"], expected)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("right", [9, 8])
def test_exact_match_and_bleu_are_of_what_is_written(right, beams):
    """With `right` 8 each 8 is written as a 4."""
    data = Uneven()
    trainer = make_trainer()
    trainer.fit(Seq2Seq(Reverses(right), FROZEN, beams=beams), datamodule=data)
    answers = [[t for t in row if t > END] for row in data.split("val")[1].tolist()]
    written = [[t if t < right else 4 for t in row] for row in answers]
    matches = np.mean([one == other for one, other in zip(answers, written, strict=True)])
    assert (matches == 1) == (right == 9)
    assert matches > 0
    logged = trainer.callback_metrics
    assert float(logged["val/exact_match"]) == pytest.approx(matches)
    text = [[" ".join(map(str, row)) for row in rows] for rows in (written, answers)]
    assert float(logged["val/bleu"]) == pytest.approx(float(bleu_score(text[0], [[t] for t in text[1]])))


def test_bleu_of_words_is_of_the_decoded_text():
    class Letters(Uneven):
        def decode(self, ids):
            return " ".join(c for number in ids for c in ("xy" if number == 4 else "abcde"[number - 4]))

    data = Letters()
    trainer = make_trainer()
    trainer.fit(Seq2Seq(Reverses(8), FROZEN, bleu_of="words"), datamodule=data)
    answers = [[t for t in row if t > END] for row in data.split("val")[1].tolist()]
    written = [data.decode([t if t < 8 else 4 for t in row]) for row in answers]
    expected = bleu_score(written, [[data.decode(row)] for row in answers])
    assert float(trainer.callback_metrics["val/bleu"]) == pytest.approx(float(expected))
    numbers = {"padding_id": PADDING, "begin_id": BEGIN, "end_id": END}
    module = Seq2Seq(Reverses(), FROZEN, bleu_of="words", **numbers)
    with pytest.raises(UserError, match=r"needs a DataModule with decode\(ids\)"):
        make_trainer().fit(module, data.train_dataloader(), data.val_dataloader())


def test_sequences_match_up_to_their_ends():
    module = Seq2Seq(Reverses(), padding_id=PADDING, begin_id=BEGIN, end_id=END)
    true = torch.tensor([[5, 6, END, 0, 0], [5, 6, END, 0, 0], [5, 6, 7, 8, END], [5, END, 0, 0, 0]])
    written = torch.tensor([[5, 6, END, 0], [5, 6, 0, 0], [5, 6, 7, 8], [5, END, 0, 0]])
    assert module.exact_matches(written, true).tolist() == [True, False, False, True]


def test_predictions_are_what_is_written_and_need_no_data():
    data = ReversedTokens()
    module = Seq2Seq(Reverses(), FROZEN)
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    source, targets = data.split("val")
    written = module.predict_step(source, 0)
    assert module.exact_matches(written, targets[:, 1:]).all()
    (again,) = make_trainer().predict(module, data.val_dataloader())
    assert torch.equal(again, written)
    bare = Seq2Seq(Reverses(), FROZEN, padding_id=PADDING, begin_id=BEGIN, end_id=END)
    with pytest.raises(UserError, match="give it: target_length="):
        bare.predict_step(source, 0)
    assert bare.exact_matches(bare.predict_step((source, targets), 0), targets[:, 1:]).all()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"beams": 0}, "at least one beam"),
        ({"target_length": 1}, "2 tokens or more"),
        ({"bleu_of": "x"}, "not of 'x'"),
    ],
)
def test_wrong_arguments_are_said(arguments, part):
    with pytest.raises(UserError, match=part):
        Seq2Seq(TRANSFORMER, **arguments)


def test_data_without_a_beginning_are_refused():
    from token_data import TokenSeries

    class NoBegin(TokenSeries):
        begin_id = None

    with pytest.raises(UserError, match="sequence to sequence needs begin_id, and NoBegin has none"):
        make_trainer().fit(Seq2Seq(TRANSFORMER), datamodule=NoBegin())


def test_a_net_built_before_its_padding_was_known_is_refused():
    module = Seq2Seq(TRANSFORMER, FROZEN, input_shape=(5,), output_size=9)
    with pytest.raises(UserError, match="padded with 0; give padding_id beside"):
        make_trainer().fit(module, datamodule=ReversedTokens())
    given = Seq2Seq(TRANSFORMER, FROZEN, input_shape=(5,), output_size=9, padding_id=0)
    make_trainer().fit(given, datamodule=ReversedTokens())
    assert given.net.padding_id == PADDING


@pytest.mark.parametrize("net", [TRANSFORMER, {"name": "seq2seq_lstm", "width": 32, "depth": 1, "attention": "luong"}])
@pytest.mark.slow
def test_it_learns_to_reverse(net):
    L.seed_everything(0, verbose=False)
    recipe = Recipe({"name": "adamw", "lr": 1e-2}, {"name": "cosine", "warmup": 0.1}, batch=64)
    trainer = make_trainer(max_epochs=20)
    trainer.fit(Seq2Seq({**net, "width": 32}, recipe), datamodule=ReversedTokens(samples=3000))
    assert float(trainer.callback_metrics["val/exact_match"]) == 1
    assert float(trainer.callback_metrics["val/bleu"]) == 1
