"""``trainoff plan``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainoff.benchmarks.suite_yaml import read_value
from trainoff.errors import UserError
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Recipe
from trainoff.output import print_document
from trainoff.registry import arguments_of, normalise

_DEFAULT_BATCH = 32


def command(arguments: argparse.Namespace) -> None:
    """Print what a suite, or the training of one net, will need.

    Raises:
        UserError: Where it is not said of what.
    """
    if (arguments.suite is None) == (arguments.net is None):
        raise UserError("say a suite, or a net as in --net gpt2; see trainoff plan --help", "plan")
    if arguments.suite is not None:
        _plan_suite(arguments)
    else:
        _plan_net(arguments)


def _plan_suite(arguments: argparse.Namespace) -> None:
    given = {"--recipe": arguments.recipe, "--module": arguments.module, "--batch": arguments.batch}
    for flag, value in {**given, **dict(arguments.dotted)}.items():
        if value is not None:
            raise UserError("is for --net; a suite has its own", flag)
    from trainoff.benchmarks.planning.strategy_plan import bytes_of
    from trainoff.benchmarks.planning.suite_plan import plan_suite
    from trainoff.benchmarks.suite import load_suite
    from trainoff.commands.plan_tables import suite_text

    memory = None if arguments.memory is None else bytes_of(arguments.memory)
    suite = load_suite(arguments.suite, arguments.scale)
    kernels: Any = arguments.kernels or ("cpu" if memory is None else "gpu")
    plan = plan_suite(suite, arguments.devices, arguments.strategy, memory, arguments.workers, kernels)
    print_document(json.dumps(plan.to_dict(), indent=1)) if arguments.json else print(suite_text(plan))


def _plan_net(arguments: argparse.Namespace) -> None:
    dotted = arguments.dotted
    net = normalise(_merged(_read(arguments.net, "--net"), dotted, "net", "name"), "--net")
    NETS.load(net)  # an unknown name is answered with what is like it
    fields = _merged(_recipe_fields(arguments.recipe), dotted, "recipe", "optimizer")
    recipe = Recipe.of(fields)
    samples = arguments.batch or (recipe.batch if isinstance(recipe.batch, int) else _DEFAULT_BATCH)
    options = {} if recipe.strategy is None else arguments_of(recipe.strategy)  # type: ignore[arg-type]
    devices = arguments.devices or int(options.get("devices", 1))
    strategy = arguments.strategy or (recipe.strategy or {}).get("name")  # type: ignore[union-attr]
    recipe = dataclasses.replace(recipe, batch=samples, strategy=None)
    recipe.validate()

    from trainoff.benchmarks.planning.net_plan import plan_net
    from trainoff.benchmarks.planning.net_training import NetTraining
    from trainoff.benchmarks.planning.strategy_plan import ALL_ROWS, bytes_of, rows_of
    from trainoff.commands.plan_tables import net_text

    memory = None if arguments.memory is None else bytes_of(arguments.memory)
    rows = rows_of(strategy) if strategy else ALL_ROWS if devices > 1 else ALL_ROWS[:1]
    training = NetTraining.of(net, arguments.module or "", _shape(arguments.input_shape), arguments.output_size)
    plan = plan_net(training, recipe, samples, rows, devices, memory, arguments.kernels or "gpu")
    print_document(json.dumps(plan.to_dict(), indent=1)) if arguments.json else print(net_text(plan))


def _read(text: str, where: str) -> Any:
    """A name, or a mapping in YAML."""
    value = read_value(text, where)
    return value if isinstance(value, Mapping) else text


def _recipe_fields(text: str | None) -> dict[str, Any]:
    """Of names joined by ``-``, or of a mapping."""
    value = {} if text is None else _read(text, "--recipe")
    return dict(value) if isinstance(value, Mapping) else {
        key: field for key, field in Recipe.of(value).to_dict().items() if field not in ([], (), 1)
    }  # fmt: skip


def _merged(value: Any, dotted: Sequence[tuple[str, str]], prefix: str, key: str) -> Any:
    """A choice with what is said of it by dotted flags."""
    mine = [(flag.removeprefix(f"--{prefix}.").split("."), text) for flag, text in dotted if _is_of(flag, prefix)]
    if not mine:
        return value
    merged: dict[str, Any] = {key: value} if isinstance(value, str) else dict(value)
    for path, text in mine:
        target = merged
        for part in path[:-1]:
            inner = target.get(part, {})
            target[part] = {"name": inner} if isinstance(inner, str) else dict(inner)
            target = target[part]
        target[path[-1]] = read_value(text, f"--{prefix}.{'.'.join(path)}")
    return merged


def _is_of(flag: str, prefix: str) -> bool:
    return flag.startswith(f"--{prefix}.")


def _shape(text: str | None) -> tuple[int, ...] | None:
    """``3,224,224``."""
    if text is None:
        return None
    parts = text.replace("x", ",").strip("()[] ").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"'{text}' is no shape; write 3,224,224", "--input-shape")
    return tuple(map(int, parts))
