"""The committed table of pytorch_optimizer's optimizers: complete, right about each, and every plain name trains."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, version
from typing import Any

import pytest
import torch
from torch import nn

from trainoff.modules import pytorch_optimizer_names as table
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.survey_optimizers import LONG, RATES, is_decoupled, optimizer_classes, process_group
from trainoff.modules.survey_training import train

WORDS = {
    "base_optimizer",
    "closure",
    "create_graph",
    "gradient",
    "matrices",
    "model",
    "no_closure",
    "process_group",
    "samples",
    "steps",
    "train_mode",
    "use_muon",
}
SUPPORTED = [name for name in table.CLASSES if not table.NEEDS.get(name, "").startswith("unsupported: ")]
# One of each need, two plain ones, and one whose own learning rate does not train.
QUICK = {
    "adabelief",
    "adahessian",
    "adammini",
    "alig",
    "distributedmuon",
    "emonavi",
    "lars",
    "lookahead",
    "normuon",
    "prodigy",
    "ranger21",
    "sam",
    "schedulefreeadamw",
    "wsam",
}


def test_the_table_is_data() -> None:
    program = (
        "import sys; from trainoff.modules.pytorch_optimizer_names import CLASSES;"
        "assert len(CLASSES) > 100; assert not {'torch', 'pytorch_optimizer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def papers_named_by_the_library() -> dict[str, str]:
    """The arXiv number that pytorch_optimizer's own description gives each optimizer, by its name in lower case."""
    description = metadata("pytorch_optimizer").get_payload() or metadata("pytorch_optimizer")["Description"]
    found = {}
    for line in description.partition("LR Scheduler")[0].splitlines():
        cells = line.split("|")
        number = re.search(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{5})", line)
        if len(cells) > 3 and number:
            found[re.sub(r"\W", "", cells[1]).lower()] = number[1]
    return found


def test_each_optimizer_says_what_it_does_and_names_the_paper_that_the_library_names() -> None:
    entries = {name: OPTIMIZERS[name] for name in table.CLASSES}
    assert not [name for name, entry in entries.items() if "of pytorch_optimizer" in entry.summary or not entry.paper]
    named = papers_named_by_the_library()
    # It gives SGDSaI the number of MARS; SGD with D-Adaptation and others stand under a family's name.
    compared = (entries.keys() & named.keys()) - {"sgdsai"}
    assert len(compared) > 70
    assert not [name for name in compared if named[name] not in entries[name].paper]


def test_the_table_is_sorted_and_agrees_with_itself() -> None:
    assert list(table.CLASSES) == sorted(table.CLASSES)
    assert set(table.NEEDS) <= set(table.CLASSES)
    assert set(table.LEARNING_RATES) <= set(SUPPORTED)
    assert set(table.DECOUPLED) <= set(table.CLASSES)
    assert set(table.LEARNING_RATES.values()) <= set(RATES)


def test_no_name_is_torchs() -> None:
    assert not {name.lower() for name in vars(torch.optim)} & set(table.CLASSES)


@pytest.mark.parametrize("name", sorted(table.NEEDS))
def test_needs_are_words_of_the_list(name: str) -> None:
    needs = table.NEEDS[name]
    assert needs.startswith("unsupported: ") or set(needs.split(", ")) <= WORDS


def test_the_table_equals_what_the_library_lists() -> None:
    import pytorch_optimizer

    if version("pytorch_optimizer") not in str(table.__doc__):
        pytest.skip("another version than the one surveyed")
    classes = optimizer_classes()
    assert {name: value.__name__ for name, value in classes.items()} == table.CLASSES
    # Each name that the library loads is in the table, under its own name or with the prefix, or is torch's class.
    for name in pytorch_optimizer.get_supported_optimizers():
        loaded = pytorch_optimizer.load_optimizer(name)
        assert loaded.__module__.startswith("torch.") or loaded in classes.values(), name
    for class_name in table.CLASSES.values():
        # This is where OPTIMIZERS looks.
        assert issubclass(getattr(pytorch_optimizer, class_name), torch.optim.Optimizer)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SUPPORTED]
)
def test_it_trains_given_its_needs(name: str) -> None:
    needs, rate = table.NEEDS.get(name, ""), table.LEARNING_RATES.get(name)
    optimizer_class = optimizer_classes()[name]
    with process_group(wanted="process_group" in needs):
        trained = train(optimizer_class, needs, rate)
        if not trained.succeeded:
            trained = train(optimizer_class, needs, rate, steps=LONG)
    assert trained.succeeded, trained


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(table.DECOUPLED))
def test_decoupled_is_as_the_survey_says(name: str) -> None:
    assert is_decoupled(optimizer_classes()[name])


@pytest.mark.parametrize(
    ("name", "decoupled"), [("conda", True), ("fira", True), ("adan", True), ("adopt", False), ("qhadam", False)]
)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_decoupled_decay_is_its_formula_whatever_the_gradient(name: str, decoupled: bool, scale: float) -> None:
    """Three decoupled steps multiply a weight by (1 - rate * decay)³, beside what the gradient does."""
    rate, decay = 0.01, 0.01
    # Of full rank: some project on the gradient's singular vectors, which rounding chooses where a value is zero.
    start, gradient = torch.full((4, 4), 2.0), torch.arange(1.0, 17).reshape(4, 4) + 10 * torch.eye(4)
    ends = []
    for coefficient in (0.0, decay):
        parameter = nn.Parameter(start.clone())
        optimizer_class: Any = optimizer_classes()[name]
        optimizer = optimizer_class([parameter], lr=rate, weight_decay=coefficient)
        for _ in range(3):
            parameter.grad = scale * gradient
            optimizer.step()
        ends.append(parameter.detach())
    expected = start * ((1 - rate * decay) ** 3 - 1)
    # The steps themselves shrink with the weights: hence not to the last digit.
    assert torch.allclose(ends[1] - ends[0], expected, rtol=0.05) is decoupled
    assert (name in table.DECOUPLED) is decoupled
