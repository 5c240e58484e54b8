"""`trainoff show`: what a name does, its arguments, and a schedule's rate over time."""

from __future__ import annotations

import json

import pytest

from trainoff.command_line import main
from trainoff.commands.schedule_plot import plot_schedule
from trainoff.datamodules import DATAMODULES
from trainoff.modules import PRUNING, SCHEDULES
from trainoff.modules.schedule_functions import Constant, Linear


@pytest.fixture
def shown(capsys):
    def shown_(*arguments):
        assert main(["show", *arguments]) == 0
        return capsys.readouterr().out

    return shown_


def test_a_schedule_has_formula_arguments_paper_and_plot(shown):
    text = shown("cosine")
    assert "formula: α(t) = α₀ · (m + (1 − m) · (1 + cos(πt/T)) / 2)" in text
    assert "paper: Loshchilov & Hutter 2017" in text
    assert "  minimum: 0.0" in text
    assert "  warmup: 0" in text
    assert "100 steps" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_list_of_datamodules_has_shape_classes_size_licence_and_citation(capsys):
    assert main(["list", "datamodules"]) == 0
    text = capsys.readouterr().out
    assert "inputs (1, 28, 28), 10 classes, 70,000 samples, 30.9 MB; MIT; Xiao, Rasul and Vollgraf 2017" in text
    for entry in DATAMODULES:
        assert entry.licence in text
        assert entry.citation in text
    assert main(["list", "datamodules", "--json"]) == 0
    assert "30.9 MB" in json.loads(capsys.readouterr().out)[4]["details"]


def test_a_suite_says_its_scales(shown):
    assert "scales: full" in shown("fashion-mnist")


def test_a_rate_that_depends_on_validation_is_not_plotted(shown):
    assert "share of the base rate" not in shown("plateau")


def heights(lines):
    """The column heights, in eighths of a line, read back from the characters."""
    bars = [f"{line[4:]:<60}" for line in lines[:-1]]
    return [sum(" ▁▂▃▄▅▆▇█".index(bar[column]) for bar in bars) for column in range(60)]


def test_the_plot_is_the_schedule():
    assert heights(plot_schedule(Constant(), "step")) == [40] * 60
    drawn = heights(plot_schedule(Linear(), "step"))
    for column, height in enumerate(drawn):
        share = 1 - round(column * 99 / 59) / 100
        assert abs(height - max(1, 40 * share)) <= 0.5 + 1e-9
    assert plot_schedule(Linear(), "epoch")[-1].endswith("100 epochs")


@pytest.mark.parametrize("entry", [e for e in SCHEDULES if e.name != "plateau"], ids=lambda e: e.name)
def test_every_schedule_can_be_plotted(entry):
    lines = plot_schedule(entry.load()(), entry.interval)
    assert len(lines) == 6
    assert all(1 <= height <= 40 for height in heights(lines))


def test_a_pruning_method_says_what_it_does_and_costs(shown):
    text = shown("dynamic_network_surgery")
    assert "what: prunes small weights and splices those back that grow" in text
    assert "formula: h ← 0 where |θ| < a" in text
    assert "costs: a copy of the weights in memory" in text
    assert "paper: Guo, Yao & Chen 2016" in text
    assert "  margin: 0.1" in text


@pytest.mark.parametrize("entry", PRUNING, ids=lambda entry: entry.name)
def test_every_pruning_method_has_all_of_it(entry):
    assert entry.summary
    assert entry.formula
    assert entry.paper
    assert entry.costs


def test_what_a_recipe_gives_to_an_optimizer_is_an_argument(shown):
    sam, as_regularizer = json.loads(shown("sam", "--json"))
    assert (sam["name"], as_regularizer["name"]) == ("sam (optimizers)", "sam (regularizers)")
    assert sam["arguments"]["base_optimizer"] == "'adamw'"
    assert {"lr", "rho"} <= sam["arguments"].keys()
    assert "guaranteed" in sam
    (muon,) = json.loads(shown("muon", "--json"))
    assert muon["arguments"]["auxiliary"] == "'adamw'"
    (ranger,) = json.loads(shown("ranger21", "--json"))
    assert "num_iterations" not in ranger["arguments"]
    (lomo,) = json.loads(shown("lomo", "--json"))
    assert lomo["not offered"].startswith("updates the weights during the backward pass")
