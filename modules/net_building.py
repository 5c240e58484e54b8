"""From a net's name to a net: its sizes, its seed, its initialisation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Choice
from trainoff.modules.signatures import bind_arguments
from trainoff.registry import arguments_of, import_class, normalise
from trainoff.seeds import derive_seed


def check_net(choice: Choice) -> None:
    """Check a net's arguments against its signature, before there is anything to build it from.

    Raises:
        UserError: For an unknown net, or an argument that it does not take.
    """
    given = {"input_shape", "output_size"} if "name" in choice else set()
    where = f"net {choice.get('name') or choice['class_path']}"
    factory = NETS.load(choice)
    if "name" in choice or not _takes_sizes(factory):
        bind_arguments(factory, arguments_of(choice), where, given=given)
    _check_parts(arguments_of(choice), where)


def build_net(choice: Choice, input_shape: Sequence[int], output_size: int) -> nn.Module:
    """Build a net.

    Its weights come from a generator of their own, derived from the global seed: whatever drew random numbers
    before changes nothing.

    Args:
        choice: Normalised. By ``class_path`` a net that takes ``input_shape`` and ``output_size`` gets them; any
            other is built from its ``init_args`` alone. Any of these that is itself ``{class_path: ..., init_args:
            ...}`` is built first, as LightningCLI does: a layer, or the config of a transformers model.
        input_shape: Of one sample.
        output_size: Number of outputs.

    Raises:
        UserError: For arguments that the net does not take.
    """
    factory = NETS.load(choice)
    arguments = arguments_of(choice)
    where = f"net {choice.get('name') or choice['class_path']}"
    if "name" in choice or _takes_sizes(factory):
        arguments = {"input_shape": tuple(input_shape), "output_size": output_size} | arguments
    # On the CPU whatever the Trainer's device, so that a seed means the same weights everywhere.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derive_seed(torch.initial_seed(), "weights"))
        try:
            net = cast(nn.Module, factory(**_with_parts_built(arguments, where)))
        except TypeError as error:
            raise UserError(str(error), where) from error
        except UserError as error:
            raise UserError(error.message, f"{where}.{error.where}".rstrip(".")) from error
    return net


def logits_of(outputs: Any) -> Tensor:
    """The tensor of what a net returned; transformers' models return an object that has it as ``logits``."""
    return cast(Tensor, getattr(outputs, "logits", outputs))


def _parts_of(arguments: Mapping[str, Any], where: str) -> dict[str, Choice]:
    """The arguments that are themselves named by a ``class_path``, normalised."""
    return {
        name: normalise(value, f"{where}.{name}")
        for name, value in arguments.items()
        if isinstance(value, Mapping) and "class_path" in value
    }


def _check_parts(arguments: Mapping[str, Any], where: str) -> None:
    """Only that they can be imported: the signature of a transformers config leaves out arguments that it takes."""
    for name, part in _parts_of(arguments, where).items():
        try:
            import_class(part["class_path"])
        except UserError as error:
            raise UserError(error.message, f"{where}.{name}") from error
        _check_parts(arguments_of(part), f"{where}.{name}")


def _with_parts_built(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    built = {}
    for name, part in _parts_of(arguments, where).items():
        built[name] = import_class(part["class_path"])(**_with_parts_built(arguments_of(part), f"{where}.{name}"))
    return {**arguments, **built}


def _takes_sizes(factory: Any) -> bool:
    return {"input_shape", "output_size"} <= set(inspect.signature(factory).parameters)


def sizes_of(module: L.LightningModule) -> tuple[tuple[int, ...], int]:
    """Input shape and output size: the module's hyperparameters first, then the DataModule's attributes.

    Raises:
        UserError: Where neither has them.
    """
    datamodule = getattr(module.trainer, "datamodule", None)
    input_shape = module.hparams.get("input_shape") or getattr(datamodule, "input_shape", None)
    output_size = (
        module.hparams.get("output_size")
        or getattr(datamodule, "output_size", None)
        or getattr(datamodule, "num_classes", None)
    )
    if input_shape is None or output_size is None:
        source = f"{type(datamodule).__name__} has not both" if datamodule else "there is no DataModule"
        raise UserError(
            "a net given by name needs input_shape and output_size, and "
            f"{source}; give them: {type(module).__name__}(net=..., input_shape=(...), output_size=...)",
            "net",
        )
    return tuple(input_shape), int(output_size)
