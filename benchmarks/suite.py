"""A suite: tasks × recipes × seeds, with a tuning rule, from one YAML file or the same data in Python."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from trainoff.benchmarks.checkpoint_interval import DEFAULT_INTERVAL, CheckpointInterval, read_interval
from trainoff.benchmarks.executors.memory_limit import bytes_of
from trainoff.benchmarks.metric_modes import MODES
from trainoff.benchmarks.search_space import check_space, read_candidate, read_cost, refuse_search
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.suite_scales import check_scales, document_at_scale
from trainoff.benchmarks.suite_values import (
    check_fields,
    check_number,
    check_whole,
    choice_of,
    is_exclusive,
    mapping,
    plain_data,
)
from trainoff.benchmarks.suite_yaml import Document, read_yaml
from trainoff.benchmarks.trial import Budget, Task
from trainoff.benchmarks.tuning import Path as KeyPath
from trainoff.benchmarks.tuning import Setting, Where, settings_of, tuning_points
from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError, closest
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Recipe
from trainoff.modules.registry import MODULES
from trainoff.registry import arguments_of

_MOST_SEEDS = 100_000
_SUITE_KEYS = (
    "name", "summary", "seeds", "tuning", "baseline", "tasks", "recipes", "time_limit", "memory_limit", "timing",
    "search", "scales", "checkpoint_every",
)  # fmt: skip
_TASK_KEYS = ("module", "data", "metric", "mode", "target", "budget", "candidate", "row_of")
_BUDGET_KEYS = ("epochs", "steps", "seconds", "until")
_RECIPE_KEYS = tuple(Recipe.__dataclass_fields__)


@dataclass(frozen=True)
class SuiteRecipe:
    """A recipe of a suite and its settings.

    Args:
        name: The suite's name for it.
        settings: At least one; more where values are tuned.
    """

    name: str
    settings: tuple[Setting, ...]

    @property
    def is_tuned(self) -> bool:
        """Whether there is a choice between settings."""
        return len(self.settings) > 1


@dataclass(frozen=True)
class Suite:
    """Tasks × recipes × seeds.

    Args:
        name: Also the default run folder's.
        summary: One line.
        tune_seeds: Seeds on which settings are chosen.
        final_seeds: Seeds that the standings come from, none of them among the former.
        baseline: The recipe that the others are compared with.
        tasks: What is trained.
        recipes: How.
        time_limit: Seconds after which a trial is ended as ``timed_out``.
        checkpoint_every: How often a trial keeps a checkpoint; None for never.
        is_exclusive: Whether each trial runs alone on its machine, so that all are timed under the same conditions.
        memory_limit: Bytes over which a trial is ended as ``out_of_memory``, all its processes together.
        data: The suite as plain data, to be kept beside the records.
        source: The file that it was read from, for messages.
    """

    name: str
    summary: str
    tune_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    baseline: str
    tasks: tuple[Task, ...]
    recipes: tuple[SuiteRecipe, ...]
    time_limit: float | None
    data: dict[str, Any]
    source: Document | None = field(default=None, compare=False, repr=False)
    memory_limit: int | None = None
    checkpoint_every: CheckpointInterval | None = DEFAULT_INTERVAL
    is_exclusive: bool = False

    def place(self, task: str, recipe: str = "", key: str = "") -> str:
        """Where something stands, for messages: ``suite.yaml:12: recipe sgd on task digits: batch``.

        Args:
            task: Its name.
            recipe: Likewise; empty for what is wrong with the task under any recipe.
            key: Dotted, within the recipe or the task.
        """
        keys = _keys(key)
        first = str(keys[0]) if keys else ""
        if first.startswith("net "):  # with its name, as the net itself says it: the task's, whatever the recipe
            whose, path = f"task {task}", ("tasks", task, "module", "net", *keys[1:])
        elif first in _TASK_KEYS or not recipe:
            whose, path = f"task {task}", ("tasks", task, *keys)
        else:  # what is no recipe's key, such as a class's name, is somewhere in the recipe
            whose, path = f"recipe {recipe} on task {task}", keys if first in _RECIPE_KEYS else ()
        text = f"{whose}: {key}" if key else whose
        if self.source is None:
            return text
        if path[:1] == ("tasks",):
            return f"{self.source.line(*path)}: {text}"
        return f"{_inherited_place(recipe, path, self.data['recipes'], self.source.line)}: {text}"

    def with_seeds(self, final: int) -> Suite:
        """The same with another number of final seeds.

        Raises:
            UserError: For a number below 1.
        """
        if final < 1:
            raise UserError(f"{final} seeds; at least 1 is needed", "--seeds")
        seeds = {"tune": len(self.tune_seeds), "final": final}
        first = len(self.tune_seeds)
        return replace(self, final_seeds=tuple(range(first, first + final)), data={**self.data, "seeds": seeds})

    def with_memory_limit(self, limit: str | int) -> Suite:
        """The same with another memory limit.

        Raises:
            UserError: For what is no size of memory.
        """
        made = bytes_of(limit, "--memory-limit")
        return replace(self, memory_limit=made, data={**self.data, "memory_limit": limit})

    def only(self, pattern: str) -> Suite:
        """The same with the recipes whose names match a shell pattern.

        Raises:
            UserError: Where none does.
        """
        kept = tuple(recipe for recipe in self.recipes if fnmatchcase(recipe.name, pattern))
        if not kept:
            names = [recipe.name for recipe in self.recipes]
            raise UserError(f"no recipe matches '{pattern}'; there are {', '.join(names)}", "--only")
        baseline = self.baseline if any(r.name == self.baseline for r in kept) else kept[0].name
        return replace(self, recipes=kept, baseline=baseline)


def load_suite(name: str, scale: str | None = None) -> Suite:
    """A shipped or installed suite by name, or one from a YAML file by path.

    Args:
        name: Or path.
        scale: One of the suite's ``scales``; the suite as it stands by default.

    Raises:
        UserError: For anything wrong with it, naming file, line and key.
    """
    if name in SUITES:
        path = SUITES[name].load()
    elif "/" in name or name.endswith((".yaml", ".yml")) or os.path.exists(name):
        path = Path(name)
    else:
        raise UserError(
            f"no suite is called '{name}'{closest(name, SUITES.names())}; a suite is a shipped name "
            f"({', '.join(SUITES.names())}) or the path of a YAML file"
        )
    document = read_yaml(path)
    if scale is not None:
        document = document_at_scale(document, scale)
    return replace(parse_suite(document.data, document.where), source=document)


def parse_suite(data: Any, where: Where) -> Suite:
    """Validate a suite to the key.

    Args:
        data: Plain data, as in a suite file.
        where: Names the place of a path (file, line, key), for messages.

    Raises:
        UserError: For the first thing that is wrong.
    """
    suite = mapping(plain_data(data, (), where), (), where, _SUITE_KEYS, required=("name", "tasks", "recipes"))
    name = suite["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"{name!r} is not a name of letters, digits, '-', '_' and '.'", where("name"))
    tune, final = _seeds(suite.get("seeds", 3), where)
    tasks = tuple(
        _task(key, value, where) for key, value in mapping(suite["tasks"], ("tasks",), where, some=True).items()
    )
    refuse_search(suite["recipes"], ("recipes",), where)
    read_cost(suite.get("search"), where)
    check_scales(suite.get("scales", {}), where)
    recipes = _recipes(suite["recipes"], where, tuning_points(suite.get("tuning", "grid"), where))
    baseline = suite.get("baseline", recipes[0].name)
    names = [recipe.name for recipe in recipes]
    if baseline not in names:
        raise UserError(f"no recipe is called '{baseline}'{closest(str(baseline), names)}", where("baseline"))
    limit = suite.get("time_limit")
    if limit is not None:
        check_number(limit, ("time_limit",), where, above=0)
    return Suite(
        name=name,
        summary=str(suite.get("summary", "")),
        tune_seeds=tuple(range(tune)),
        final_seeds=tuple(range(tune, tune + final)),
        baseline=baseline,
        tasks=tasks,
        recipes=recipes,
        time_limit=limit,
        data=dict(suite),
        is_exclusive=is_exclusive(suite.get("timing", "shared"), where),
        memory_limit=bytes_of(suite["memory_limit"], where("memory_limit")) if "memory_limit" in suite else None,
        checkpoint_every=read_interval(suite.get("checkpoint_every"), where),
    )


def _seeds(value: Any, where: Where) -> tuple[int, int]:
    if isinstance(value, Mapping):
        seeds = mapping(value, ("seeds",), where, ("tune", "final"))
        tune, final = seeds.get("tune", 1), seeds.get("final", 3)
        check_whole(tune, ("seeds", "tune"), where, _MOST_SEEDS)
        check_whole(final, ("seeds", "final"), where, _MOST_SEEDS)
        return tune, final
    check_whole(value, ("seeds",), where, _MOST_SEEDS)
    return 1, value


def _task(name: str, value: Any, where: Where) -> Task:
    path = ("tasks", name)
    task = mapping(value, path, where, _TASK_KEYS, required=("module", "data", "metric", "budget"))
    check_space(task["module"], (*path, "module"), where)
    module = choice_of(task["module"], (*path, "module"), where, MODULES)
    _refuse_recipe(module, (*path, "module"), where)
    data = choice_of(task["data"], (*path, "data"), where, DATAMODULES)
    if "name" in module and "net" in module:
        choice_of(module["net"], (*path, "module", "net"), where, NETS)
    metric = task["metric"]
    if not isinstance(metric, str):
        raise UserError(f"{metric!r} is not the name of a metric", where(*path, "metric"))
    mode = task.get("mode", MODES.get(re.sub(r"^val(id|idation)?[/_]", "", metric)))
    if mode not in ("max", "min"):
        if "mode" in task:
            raise UserError(f"{mode!r} is neither 'max' nor 'min'", where(*path, "mode"))
        raise UserError(f"say whether '{metric}' is to be max or min{closest(metric, MODES, 1)}", where(*path, "mode"))
    target = task.get("target")
    if target is not None:
        check_number(target, (*path, "target"), where)
    candidate = read_candidate(task["candidate"], (*path, "candidate"), where) if "candidate" in task else None
    budget = _budget(task["budget"], (*path, "budget"), where)
    row_of = task.get("row_of")
    if row_of is not None and not isinstance(row_of, str):
        raise UserError(f"{row_of!r} is not the name of a table", where(*path, "row_of"))
    return Task(name, module, data, metric, mode, budget, target, candidate, row_of)


def _refuse_recipe(module: Mapping[str, Any], path: KeyPath, where: Where) -> None:
    """A module class's argument ``recipe`` is the suite's to give; one that stood here would be dropped."""
    if "recipe" in arguments_of(module) and inspect.isclass(MODULES.load(module)):
        inside = ("init_args",) if "class_path" in module else ()
        raise UserError("is what a suite's recipes bring; leave it out here", where(*path, *inside, "recipe"))


def _budget(value: Any, path: tuple[str, ...], where: Where) -> Budget:
    budget = mapping(value, path, where, _BUDGET_KEYS, some=True)
    for key in ("epochs", "steps"):
        if key in budget:
            check_whole(budget[key], (*path, key), where)
    if "seconds" in budget:
        check_number(budget["seconds"], (*path, "seconds"), where, above=0)
    norm = None
    if "until" in budget:
        until = mapping(budget["until"], (*path, "until"), where, ("gradient_norm",), required=("gradient_norm",))
        norm = until["gradient_norm"]
        check_number(norm, (*path, "until", "gradient_norm"), where, above=0)
        if len(budget) == 1:
            raise UserError("'until' may never be reached; give a cap in epochs, steps or seconds", where(*path))
    return Budget(budget.get("epochs"), budget.get("steps"), budget.get("seconds"), norm)


def _recipes(value: Any, where: Where, points: int | None) -> tuple[SuiteRecipe, ...]:
    recipes = mapping(value, ("recipes",), where, some=True)
    made = []
    for name in recipes:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise UserError("a recipe's name has letters, digits, '-', '_', '+' and '.' only", where("recipes", name))
        fields = _inherited(name, recipes, where, ())

        def place(*path: str | int, name: str = name) -> str:
            return _inherited_place(name, path, recipes, where)

        settings = settings_of(fields, place, points)
        settled = tuple(Setting(_checked(setting.fields, place), setting.tuned) for setting in settings)
        made.append(SuiteRecipe(name, settled))
    return tuple(made)


def _inherited(name: str, recipes: Mapping[str, Any], where: Where, seen: tuple[str, ...]) -> dict[str, Any]:
    """A recipe's fields over its base's."""
    if name in seen:
        raise UserError(f"'{name}' is its own base, through {' and '.join(seen)}", where("recipes", name, "base"))
    value = {} if recipes[name] is None else recipes[name]
    own = dict(mapping(value, ("recipes", name), where, ("base", *_RECIPE_KEYS)))
    base = own.pop("base", None)
    if "base" not in value:
        return own
    if base is None:
        raise UserError("is empty; name a recipe, or leave it out", where("recipes", name, "base"))
    if not isinstance(base, str) or base not in recipes:
        raise UserError(f"no recipe is called '{base}'{closest(str(base), recipes)}", where("recipes", name, "base"))
    return {**_inherited(base, recipes, where, (*seen, name)), **own}


def _inherited_place(name: str, path: tuple[str | int, ...], recipes: Mapping[str, Any], where: Where) -> str:
    """Where a field stands: in the recipe itself, or in the base that it comes from."""
    own = recipes[name] or {}
    if path and path[0] not in own and "base" in own:
        return _inherited_place(own["base"], path, recipes, where)
    return where("recipes", name, *path)


def _checked(fields: dict[str, Any], where: Where) -> dict[str, Any]:
    """The recipe's normalised fields; what is wrong with them is said with file and line."""
    check_fields(fields, where)
    try:
        recipe = Recipe.of(fields)
        recipe.validate()
    except UserError as error:
        raise UserError(error.message, where(*_keys(error.where))) from error
    return recipe.to_dict()


def _keys(dotted: str) -> tuple[str | int, ...]:
    """``regularizers[0].p`` as a path."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"[.\[\]]+", dotted) if part)
