"""Suites of the modules that read tokens: what is refused before anything trains, and what records then hold."""

from __future__ import annotations

import pytest
import torch
from running_suites import execute, make_data, place, records_of
from token_data import PADDING, TokenSeries
from torch import nn
from torch.nn import functional as F

from trainoff.benchmarks.pairs import checked_pairs
from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.errors import UserError

SIZES = {"width": 16, "depth": 1, "heads": 2, "dropout": 0.0}
LANGUAGE_MODEL = {"name": "language_model", "net": {"name": "gpt2", **SIZES}}
MASKED = {"name": "masked_language_model", "net": {"name": "bert", **SIZES}}
SEQ2SEQ = {"name": "seq2seq", "net": {"name": "transformer", **SIZES}}
SERIES, REVERSED = {"class_path": "token_data.TokenSeries"}, {"class_path": "token_data.ReversedTokens"}
SGD = {"sgd": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 16}}


class Constant(nn.Module):
    """The same logits at each place; nothing of it learns at a rate of 0."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, 12))

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, 12)


def suite_of(module, data, metric, recipes=SGD, **others):
    suite = make_data(recipes, module=module, data=data, **others)
    suite["tasks"]["t"]["metric"] = metric
    return parse_suite(suite, place)


@pytest.mark.parametrize(
    ("module", "data", "metric", "part"),
    [
        ("classifier", SERIES, "accuracy", "a classifier gives one class a sample; here are token numbers"),
        ("regressor", SERIES, "mse", "a regressor needs numbers to come close to; here are token numbers"),
        (
            LANGUAGE_MODEL,
            "digits",
            "perplexity",
            r"a language model needs token numbers \(batch, length\), not float32",
        ),
        (LANGUAGE_MODEL, REVERSED, "perplexity", "a language model needs a target for each token"),
        (MASKED, "digits", "accuracy", "a masked language model needs token numbers"),
        (MASKED, REVERSED, "accuracy", "needs mask_id, and ReversedTokens has none"),
        (SEQ2SEQ, "diabetes", "bleu", "sequence to sequence needs token numbers"),
        (LANGUAGE_MODEL, SERIES, "exact_match", "LanguageModel logs no validation metric 'exact_match'; it logs"),
        (SEQ2SEQ, REVERSED, "perplexity", "Seq2Seq logs no validation metric 'perplexity'; it logs"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(module, data, metric, part):
    with pytest.raises(UserError, match=part) as raised:
        checked_pairs(suite_of(module, data, metric), {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "data", "metric", "mode"),
    [
        (LANGUAGE_MODEL, SERIES, "perplexity", "min"),
        (LANGUAGE_MODEL, SERIES, "bits_per_byte", "min"),
        (LANGUAGE_MODEL, SERIES, "bits_per_token", "min"),
        (MASKED, SERIES, "accuracy", "max"),
        (SEQ2SEQ, REVERSED, "loss", "min"),
        (SEQ2SEQ, REVERSED, "token_accuracy", "max"),
        (SEQ2SEQ, REVERSED, "exact_match", "max"),
        (SEQ2SEQ, REVERSED, "bleu", "max"),
    ],
)
def test_metrics_are_known_with_their_direction(module, data, metric, mode):
    suite = suite_of(module, data, metric)
    assert suite.tasks[0].mode == mode
    assert checked_pairs(suite, {})


def test_a_plateau_finds_what_a_language_model_logs():
    recipes = {"sgd": SGD["sgd"] | {"schedule": {"name": "plateau", "monitor": "val/bits_per_byte"}}}
    assert checked_pairs(suite_of(LANGUAGE_MODEL, SERIES, "perplexity", recipes), {})


def test_curves_weigh_batches_by_their_tokens(tmp_path):
    """48 padded samples in batches of 36 and 12: the curve is the mean over tokens, as the logged loss is."""
    module = {"name": "language_model", "net": {"class_path": f"{__name__}.Constant"}}
    recipes = {"still": {"optimizer": {"name": "sgd", "lr": 0.0}, "batch": 36}}
    suite = make_data(recipes, module=module, data=SERIES)
    suite["tasks"]["t"]["metric"] = "bits_per_token"
    execute(suite, tmp_path, workers=1)
    (record,) = records_of(tmp_path).values()
    data = TokenSeries()
    targets = data.split("train")[1]
    true = targets[targets != PADDING]
    expected = F.cross_entropy(torch.linspace(-1, 1, 12).expand(len(true), 12), true)
    assert record.curves.train_loss == pytest.approx([float(expected)], rel=1e-5)
    assert record.quality.metric == "bits_per_token"
    assert record.quality.last.val.metric == pytest.approx(record.quality.last.val.loss / 0.6931472, rel=1e-5)


@pytest.mark.parametrize(
    ("module", "data", "metric"),
    [(LANGUAGE_MODEL, SERIES, "bits_per_byte"), (MASKED, SERIES, "accuracy"), (SEQ2SEQ, REVERSED, "exact_match")],
)
def test_a_trial_of_each_kind_leaves_a_whole_record(module, data, metric, tmp_path):
    suite = make_data(SGD, module=module, data=data, epochs=2)
    suite["tasks"]["t"]["metric"] = metric
    execute(suite, tmp_path, workers=1)
    (record,) = records_of(tmp_path).values()
    assert record.status == "ok", record.error
    for split in (record.quality.best.train, record.quality.best.val, record.quality.best.test):
        assert split.metric is not None
        assert split.loss is not None
    assert record.cost.flops_per_sample > 0
    assert len(record.curves.train_loss) == 2


def test_the_recipes_of_the_token_suites_are_one_change_away_from_their_baseline():
    for name in ("lm-tiny", "mlm-tiny", "seq2seq-tiny"):
        recipes = dict(read_yaml(SUITES[name].load()).data["recipes"])
        recipes.pop("adamw-cosine")
        for changes in recipes.values():
            assert changes["base"] == "adamw-cosine"
            assert len(changes) == 2
