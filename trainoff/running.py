"""Running suites from Python: the same as ``trainoff run``, typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.store import write_atomically
from trainoff.benchmarks.suite import Suite, load_suite, parse_suite
from trainoff.benchmarks.suite_scales import at_scale
from trainoff.errors import UserError
from trainoff.leaderboards import Board, read_board
from trainoff.leaderboards.render import render
from trainoff.modules.recipe import Recipe
from trainoff.progress import show_progress
from trainoff.registry import provide_classes

if TYPE_CHECKING:
    import lightning as L


def run(
    suite: str | Path | Mapping[str, Any] | Suite,
    out: str | Path | None = None,
    workers: int | None = None,
    seeds: int | None = None,
    only: str | None = None,
    scale: str | None = None,
    rerun: Literal["", "failed", "all"] = "",
    executor: str | Mapping[str, Any] | None = None,
    memory_limit: str | int | None = None,
) -> Board:
    """Run what is missing of a suite and return its board.

    Args:
        suite: A shipped name, the path of a YAML file, or the same as plain data.
        out: The run folder; ``runs/<suite>`` by default.
        workers: Trials at a time; by default one a processor, on a cluster what it has room for.
        seeds: Final seeds in place of the suite's.
        only: Shell pattern of recipe names.
        scale: One of the suite's ``scales``, such as ``full``.
        rerun: ``failed`` also runs the failed trials again, ``all`` every one.
        executor: Where trials run: ``local``, ``ray``, ``slurm``, or a mapping with the name and its options, such as
            ``{"name": "ray", "address": "auto", "gpus": 1}``.
        memory_limit: Over it a trial is ended as ``out_of_memory``: ``4GB``, ``512MiB``, or bytes.

    Raises:
        UserError: For a mistake in the suite; finished trials keep their records.
    """
    made = as_suite(suite, scale)
    if seeds is not None:
        made = made.with_seeds(seeds)
    if only is not None:
        made = made.only(only)
    if memory_limit is not None:
        made = made.with_memory_limit(memory_limit)
    folder = Path(out) if out is not None else Path("runs") / made.name
    return _run(made, folder, workers, rerun, {}, executor)


def compare_recipes(
    module: type[L.LightningModule],
    datamodule: type[L.LightningDataModule],
    recipes: Sequence[str | Recipe | Mapping[str, Any]],
    seeds: int = 3,
    metric: str = "accuracy",
    mode: Literal["max", "min"] | None = None,
    budget: Mapping[str, Any] | None = None,
    target: float | None = None,
    module_arguments: Mapping[str, Any] | None = None,
    data_arguments: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: str | Mapping[str, Any] | None = None,
) -> Board:
    """Train your own LightningModule on your own DataModule under several recipes.

    Classes of a notebook or of an unguarded script are fine: they are sent to the workers by value.

    Args:
        module: A LightningModule class that logs the metric in ``validation_step`` and ``test_step``.
        datamodule: A LightningDataModule class with train, validation and test loaders.
        recipes: Recipes, or names such as ``adamw-cosine``.
        seeds: Trials of each recipe.
        metric: Short name (``accuracy`` finds ``val/accuracy`` and ``val_accuracy``).
        mode: Whether more is better; needed where the metric's name does not say.
        budget: ``{"epochs": 10}`` by default; or ``steps``, ``seconds``.
        target: Validation metric whose time is recorded.
        module_arguments: Keyword arguments of the module.
        data_arguments: Keyword arguments of the DataModule.
        out: The run folder; ``runs/<module>`` by default.
        workers: Trials at a time; by default one a processor, on a cluster what it has room for.
        executor: As :func:`run` takes it.

    Returns:
        The board.

    Raises:
        UserError: For a metric that is not logged, two recipes of one name, and other mistakes.
    """
    _check_class(module, "module", "module_arguments")
    _check_class(datamodule, "datamodule", "data_arguments")
    for where, arguments in (("module_arguments", module_arguments), ("data_arguments", data_arguments)):
        if not isinstance(arguments, (Mapping, type(None))):
            raise UserError(f"{arguments!r} is not a mapping; write {where}={{'name': value}}", where)
    if not isinstance(budget, (Mapping, type(None))):
        example = budget if isinstance(budget, int) else 10
        raise UserError(f"{budget!r} is not a mapping; write budget={{'epochs': {example}}}", "budget")
    if isinstance(recipes, (str, Recipe, Mapping)):
        raise UserError("is one recipe; give a list of them, such as ['adamw', 'sgd-cosine']", "recipes")
    named: dict[str, Any] = {}
    for recipe in recipes:
        made = Recipe.of(recipe)
        name = recipe if isinstance(recipe, str) else made.name
        if name in named:
            raise UserError(f"two recipes are called '{name}'; put them into a suite, where each has a name")
        named[name] = made.to_dict()
    classes = {_class_path(cls): cls for cls in (module, datamodule)}
    task: dict[str, Any] = {
        "module": {"class_path": _class_path(module), "init_args": dict(module_arguments or {})},
        "data": {"class_path": _class_path(datamodule), "init_args": dict(data_arguments or {})},
        "metric": metric,
        "budget": dict(budget or {"epochs": 10}),
    }
    task |= {"mode": mode} if mode else {}
    task |= {"target": target} if target is not None else {}
    name = module.__name__.lstrip("_") or "suite"
    data = {"name": name, "seeds": seeds, "tasks": {datamodule.__name__: task}, "recipes": named}
    provide_classes(classes)
    suite = parse_suite(data, _place)
    return _run(suite, Path(out) if out is not None else Path("runs") / name, workers, "", classes, executor)


def write_board(folder: Path) -> Board:
    """The board of a run folder, also written into it as ``board.html`` and ``board.md``.

    Raises:
        UserError: Where the folder holds no records, or cannot be written.
    """
    board = read_board([folder])
    write_atomically(folder / "board.html", render(board, "html").encode())
    write_atomically(folder / "board.md", render(board, "markdown").encode())
    return board


def as_suite(suite: str | Path | Mapping[str, Any] | Suite, scale: str | None = None) -> Suite:
    """A suite from whatever names or holds one, at a scale of its own.

    Raises:
        UserError: For anything wrong with it.
    """
    if isinstance(suite, Suite):
        return suite if scale is None else parse_suite(at_scale(suite.data, scale, _place), _place)
    if isinstance(suite, Mapping):
        return parse_suite(suite if scale is None else at_scale(suite, scale, _place), _place)
    return load_suite(str(suite), scale)


def _place(*path: str | int) -> str:
    return ".".join(str(part) for part in path) or "suite"


def _check_class(given: object, argument: str, arguments: str) -> None:
    if not isinstance(given, type):
        whose = type(given).__name__
        raise UserError(f"is an instance of {whose}; give its class, and what it takes as {arguments}", argument)


def _class_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _run(
    suite: Suite,
    folder: Path,
    workers: int | None,
    rerun: Literal["", "failed", "all"],
    classes: dict[str, Any],
    executor: str | Mapping[str, Any] | None,
) -> Board:
    with show_progress() as watch:
        run_suite(suite, folder, workers, rerun, classes, watch, executor)
    return write_board(folder)
