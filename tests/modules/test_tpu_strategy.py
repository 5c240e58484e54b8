"""What can be seen of TPUs without one: a recipe's options reach Lightning's strategy, and what is missing is said."""

from __future__ import annotations

import lightning.pytorch.strategies
import pytest

from trainoff.benchmarks import rehearsal
from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.strategy_requirements import check_requirements


def test_options_reach_lightnings_strategy(monkeypatch):
    given = {}

    class Strategy:
        def __init__(self, **options):
            given.update(options)

    monkeypatch.setattr("trainoff.modules.strategy_requirements.find_spec", lambda name: name)
    monkeypatch.setattr(lightning.pytorch.strategies, "XLAStrategy", Strategy)
    recipe = Recipe(strategy={"name": "xla", "devices": 8, "sync_module_states": False}, precision="bf16-true")
    arguments = recipe.trainer_arguments()
    assert given == {"sync_module_states": False}
    assert isinstance(arguments.pop("strategy"), Strategy)
    assert arguments == {"devices": 8, "precision": "bf16-true"}
    assert Recipe(strategy={"name": "xla", "devices": 8}).trainer_arguments() == {"devices": 8, "strategy": "xla"}


def test_without_torch_xla_one_line_says_so(monkeypatch):
    monkeypatch.setattr("trainoff.modules.strategy_requirements.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^strategy: 'xla' needs the package torch_xla, which is not installed$"):
        check_requirements(Recipe(strategy={"name": "xla", "devices": 1}))


def test_a_suites_trial_takes_one_core(monkeypatch):
    monkeypatch.setattr(rehearsal, "check_requirements", lambda recipe: None)

    class Trial:
        setting = Recipe(strategy={"name": "xla", "devices": 8}).to_dict()

    with pytest.raises(UserError, match=r"strategy\.devices: asks for 8 TPU cores; a suite's trial trains on one"):
        rehearsal._check_strategy(Trial())
