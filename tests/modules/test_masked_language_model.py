"""The masked language model: what is learned at which places, and how the places are renewed."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from token_data import BEGIN, END, MASK, PADDING, TokenSeries
from torch import nn
from torch.nn import functional as F
from users_project import make_trainer

from trainoff.errors import UserError
from trainoff.modules import MaskedLanguageModel, Recipe

FROZEN = Recipe({"name": "sgd", "lr": 0.0})


class Table(nn.Module):
    """Logits at a place from its own token; notes what it sees in training."""

    def __init__(self, logits):
        super().__init__()
        self.table = nn.Parameter(logits)
        self.seen = []

    def forward(self, tokens):
        if self.training:
            self.seen.append(tokens)
        return self.table[tokens]


def module_of(recipe=FROZEN, seed=0, **arguments):
    torch.manual_seed(seed)
    return MaskedLanguageModel(Table(torch.randn(12, 12)), recipe, **arguments)


class Uneven(TokenSeries):
    """Validation in batches of 5, 5 and 4."""

    evaluation_batch = 5


def test_loss_and_accuracy_are_those_at_the_hidden_places():
    module, data = module_of(share=0.4), Uneven()
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    tokens = data.split("val")[0]
    inputs, chosen = module.eval().hide(tokens)
    assert chosen.sum() < (tokens != PADDING).sum()
    logits, true = module.net(inputs)[chosen].detach(), tokens[chosen]
    logged = trainer.callback_metrics
    torch.testing.assert_close(logged["val/loss"], F.cross_entropy(logits, true))
    torch.testing.assert_close(logged["val/accuracy"], (logits.argmax(1) == true).float().mean())


def test_places_of_the_tokens_given_by_the_data():
    module = module_of(share=1.0)
    make_trainer().fit(module, datamodule=TokenSeries())
    assert {module.hparams[name] for name in ("padding_id", "begin_id", "end_id", "mask_id")} == {0, 1, 2, 3}
    tokens = torch.tensor([[BEGIN, 5, 6, 7, END, PADDING]])
    inputs, chosen = module.hide(tokens)
    assert chosen.tolist() == [[False, True, True, True, False, False]]
    assert inputs[~chosen].tolist() == [BEGIN, END, PADDING]


def test_training_places_are_renewed_each_epoch_and_evaluation_places_never():
    module, data = module_of(), TokenSeries(batch_size=48)
    trainer = make_trainer(max_epochs=2)
    L.seed_everything(1, verbose=False)
    trainer.fit(module, datamodule=data)
    first, second = (seen[seen.sum(1).argsort(stable=True)] for seen in module.net.seen)
    assert (first == MASK).sum() > 30
    assert not torch.equal(first, second)
    module.eval()
    tokens = data.split("val")[0]
    before = module.hide(tokens)[0]
    module.mask_seed += 1
    assert torch.equal(module.hide(tokens)[0], before)


def test_training_places_depend_on_the_seed_and_on_nothing_that_draws():
    class Draws(L.Callback):
        def on_train_batch_start(self, *arguments):
            torch.rand(3)

    seen = []
    for seed, callbacks in ((1, []), (1, [Draws()]), (2, [])):
        module = module_of()
        L.seed_everything(seed, verbose=False)
        make_trainer(max_epochs=2, callbacks=callbacks).fit(module, datamodule=TokenSeries())
        seen.append(torch.cat(module.net.seen))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_batch_of_tokens_alone_will_do():
    module = module_of(mask_id=MASK, output_size=12)
    module.configure_model()
    tokens = torch.randint(4, 12, (3, 8))
    alone, pair = module.compare(tokens), module.compare((tokens, torch.zeros(3)))
    assert all(torch.equal(one, other) for one, other in zip(alone, pair, strict=True))
    assert module.batch_terms(tokens) == 3 == module.loss_terms(alone[1])


class NoMask(TokenSeries):
    """Has no token to hide others by."""

    mask_id = None


def test_without_a_mask_token_the_error_says_what_to_give():
    with pytest.raises(UserError, match="needs mask_id, and NoMask has none; give it: mask_id="):
        make_trainer().fit(module_of(), datamodule=NoMask())
    with pytest.raises(UserError, match=r"the share of tokens to guess lies in \(0, 1\], not 0"):
        module_of(share=0)


class Neighbours(nn.Module):
    """Logits at a place from the tokens before and after it."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Embedding(12, 12), nn.Embedding(12, 12)

    def forward(self, tokens):
        around = F.pad(tokens, (1, 1), value=PADDING)
        return self.before(around[:, :-2]) + self.after(around[:, 2:])


def test_it_learns_what_the_neighbours_say():
    """Between tokens that differ by 2 or 4 there is one answer, by 3 there are two: right three times in four.

    With one neighbour alone it is right every other time. Of 8 places two are at the ends.
    """
    torch.manual_seed(0)
    module = MaskedLanguageModel(Neighbours(), Recipe({"name": "adam", "lr": 0.1}, batch=100))
    data = TokenSeries(samples=4000, padded=False)
    trainer = make_trainer(max_epochs=5)
    trainer.fit(module, datamodule=data)
    (logged,) = trainer.validate(module, data.train_dataloader(), verbose=False)
    assert logged["val/accuracy"] == pytest.approx(6 / 8 * 0.75 + 2 / 8 * 0.5, abs=0.03)
