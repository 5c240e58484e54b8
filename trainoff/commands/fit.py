"""``trainoff fit``: one training through LightningCLI."""

from __future__ import annotations

import argparse
import inspect
import re
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError
from trainoff.modules.registry import MODULES
from trainoff.registry import Entry, Registry

# What jsonargparse says of a value that fits none of several types; the reason stands among these lines.
_NOT_A_REASON = re.compile(
    r"(Does not validate|Subtypes:|Errors:|Expected (a|an|one of) |Given value|Parser key|Problem with given class)"
)
_EXAMPLE = "for example: trainoff fit --model classifier --data digits --trainer.max_epochs 3"


class RecipeCLI(LightningCLI):
    """LightningCLI whose Trainer takes from the model's recipe what the arguments leave open."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the arguments.

        Raises:
            UserError: In one line, for any that does not fit.
        """
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise UserError(_reason(error), "fit") from error

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer.

        Raises:
            UserError: In one line, for an argument that one of them refuses.
        """
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            raise UserError(_reason(error), "fit") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add the recipe's precision, accumulation and strategy where an argument has Lightning's own default."""
        recipe = getattr(self.model, "recipe", None)
        wanted = {} if recipe is None else recipe.trainer_arguments()
        given = self._get(self.config_init, "trainer", default={})
        defaults = inspect.signature(L.Trainer).parameters
        left_open = {key: value for key, value in wanted.items() if given.get(key) == defaults[key].default}
        return super().instantiate_trainer(**left_open, **kwargs)


def command(arguments: list[str]) -> None:
    """``--model NAME_OR_CLASS --data NAME_OR_CLASS --trainer...``, as LightningCLI takes them."""
    from lightning.pytorch.core.datamodule import LightningDataModule
    from lightning.pytorch.core.module import LightningModule

    expanded = _with_class_paths(arguments)
    with warnings.catch_warnings():
        # The arguments given here are those of the command line, without the program's own part.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
        RecipeCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "trainoff", "exit_on_error": False, "fit": {"exit_on_error": False}},
            args=["fit", *expanded],
        )


def _with_class_paths(arguments: list[str]) -> list[str]:
    """Names after ``--model`` and ``--data`` as class paths: ``classifier`` or ``Classifier``."""
    expanded = list(arguments)
    registries: dict[str, Registry[Any]] = {"--model": MODULES, "--data": DATAMODULES}
    for index, argument in enumerate(expanded):
        flag, equals, value = argument.partition("=")
        registry = registries.get(flag.removesuffix(".help"))
        if registry is None:
            continue
        if equals:
            expanded[index] = f"{flag}={_class_path(value, registry)}"
        elif index + 1 < len(expanded):
            expanded[index + 1] = _class_path(expanded[index + 1], registry)
    return expanded


def _class_path(value: str, registry: Registry[Any]) -> str:
    """A name as the class path that it stands for; class paths, files and mappings stay.

    Raises:
        UserError: For a name that the registry has not.
    """
    if not re.fullmatch(r"[A-Za-z_][\w-]*", value):
        return value
    by_class = {entry.target.rpartition(":")[2]: entry for entry in registry}
    entry: Entry = by_class[value] if value in by_class else registry[value]
    return entry.target.replace(":", ".")


def _reason(error: Exception) -> str:
    """The line of a nested message that says what is wrong."""
    missing = re.search(r"arguments are required: (.+)", str(error))
    if missing:
        names = [f"--{name.removeprefix('fit.')}" for name in reversed(missing[1].split(", "))]
        return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing; {_EXAMPLE}"
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not _NOT_A_REASON.match(line)]
    if reasons:
        return reasons[0]
    text = " ".join(lines)
    keys, given = (
        re.findall(r'Parser key "([^"]*)"', text),
        re.search(r"(?:Given|Got) value: (?:NestedArg\(.*?val=)?([^\s)]+)", text),
    )
    expected = [kind for kind in re.findall(r"Expected an? <class '([^']*)'>", text) if kind != "NoneType"]
    if keys and given and expected:
        return f"{'.'.join(keys)}: {given[1]} is not {' or '.join(dict.fromkeys(expected))}"
    return text
