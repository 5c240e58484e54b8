"""From a trial's plain data to the LightningModule and DataModule that it names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import lightning as L

from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe
from trainoff.modules.registry import MODULES
from trainoff.registry import arguments_of


def build_datamodule(choice: Mapping[str, Any]) -> L.LightningDataModule:
    """The DataModule of a task.

    Raises:
        UserError: For arguments that it does not take, or something that is not a DataModule.
    """
    factory = DATAMODULES.load(choice)
    datamodule = _call(factory, arguments_of(choice), "data", choice)
    if not isinstance(datamodule, L.LightningDataModule):
        raise UserError(f"{type(datamodule).__name__} is not a LightningDataModule", "data")
    return datamodule


def build_module(choice: Mapping[str, Any], recipe: Recipe) -> L.LightningModule:
    """The LightningModule of a task, trained by the recipe: handed over where it takes one, applied where not.

    Raises:
        UserError: For arguments that it does not take, something that is not a LightningModule, or a recipe that
            cannot act on it.
    """
    factory = MODULES.load(choice)
    arguments = arguments_of(choice)
    takes_recipe = inspect.isclass(factory) and "recipe" in inspect.signature(factory).parameters
    if takes_recipe:
        arguments["recipe"] = recipe
    module = _call(factory, arguments, "module", choice)
    if not isinstance(module, L.LightningModule):
        raise UserError(f"{type(module).__name__} is not a LightningModule", "module")
    return module if takes_recipe else recipe.apply(module)


def _call(factory: Any, arguments: dict[str, Any], where: str, choice: Mapping[str, Any]) -> object:
    label = choice.get("name") or choice["class_path"]
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{label}: {error}", where) from error
    return cast(object, factory(**arguments))
