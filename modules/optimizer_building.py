"""From a recipe's optimizer to a torch optimizer on a module's parameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.optimizer_adapters import MatricesAndRest, with_gradient_first
from trainoff.modules.optimizers import OPTIMIZERS, OptimizerEntry
from trainoff.modules.parameter_groups import OWN_DECAY, Group, Rates, hidden_matrices, parameter_groups
from trainoff.modules.recipe import Choice, Recipe
from trainoff.modules.sharded_tensors import alike
from trainoff.registry import arguments_of, normalise

DEFAULT_OPTIMIZER = "adamw"  # inside a wrapper, and for what is no hidden matrix
_LARGEST_MATRIX = 6  # dimensions: optimizers that take groups with `use_muon` flatten convolutions


def optimizer_entry(choice: Mapping[str, Any]) -> OptimizerEntry:
    """The registry's entry; for a class path an entry made up from it, with nothing special."""
    if "name" in choice:
        return OPTIMIZERS[choice["name"]]
    return OptimizerEntry(choice["class_path"], choice["class_path"])


def chosen_optimizer(recipe: Recipe) -> Choice:
    """The recipe's optimizer, inside the one that a regularizer of its name (``sam``, ``lookahead``) wraps around it.

    Raises:
        UserError: For two such regularizers.
    """
    choice = cast(Choice, recipe.optimizer)
    wrappers = [r for r in cast(Sequence[Choice], recipe.regularizers) if is_wrapper(r)]
    if len(wrappers) > 1:
        names = " and ".join(wrapper["name"] for wrapper in wrappers)
        raise UserError(f"{names} would both wrap the optimizer; keep one", "regularizers")
    return {**wrappers[0], "base_optimizer": choice} if wrappers else choice


def is_wrapper(choice: Mapping[str, Any]) -> bool:
    """Whether a regularizer stands for an optimizer around the recipe's."""
    name = str(choice.get("name"))
    return name in OPTIMIZERS and "base_optimizer" in OPTIMIZERS[name].needs


def check_supported(entry: OptimizerEntry) -> None:
    """Raise :class:`UserError` for an optimizer whose needs are not met here."""
    if entry.unsupported:
        raise UserError(f"'{entry.name}' {entry.unsupported}", "optimizer")


def wrapped_choice(choice: Mapping[str, Any]) -> Choice | None:
    """The optimizer inside one that wraps another; ``None`` for one that does not.

    Raises:
        UserError: Where the inner one has needs of its own.
    """
    entry = optimizer_entry(choice)
    if "base_optimizer" not in entry.needs:
        return None
    return _plain_choice(choice, "base_optimizer", f"'{entry.name}' wraps")


def rest_choice(choice: Mapping[str, Any]) -> Choice | None:
    """The optimizer of all but the hidden matrices, where the chosen one takes nothing else; else ``None``.

    Raises:
        UserError: Where it has needs of its own.
    """
    entry = optimizer_entry(choice)
    if "matrices" not in entry.needs:
        return None
    return _plain_choice(choice, "auxiliary", f"'{entry.name}' goes beside")


def _plain_choice(choice: Mapping[str, Any], key: str, verb: str) -> Choice:
    arguments = arguments_of(choice)
    inner = normalise(arguments.get(key, DEFAULT_OPTIMIZER), f"optimizer.{key}")
    if "name" in inner and optimizer_entry(inner).needs:
        raise UserError(f"{verb} an optimizer without needs of its own, which {inner['name']} is not",
                        f"optimizer.{key}")  # fmt: skip
    if key == "base_optimizer" and "lr" in arguments:
        target = inner if "name" in inner else inner["init_args"]
        if "lr" in target:
            raise UserError("is given twice: beside base_optimizer and in it", "optimizer.lr")
        target["lr"] = arguments["lr"]
    return inner


def decays_apart(recipe: Recipe) -> bool:
    """Whether the recipe's optimizer, or the one that it wraps, has a decoupled weight decay as an argument."""
    choice = chosen_optimizer(recipe)
    return optimizer_entry(wrapped_choice(choice) or choice).decoupled


def build_optimizer(
    recipe: Recipe, module: nn.Module, precision: str = "32-true", total_steps: float = math.inf
) -> Optimizer:
    """The recipe's optimizer over the module's trainable parameters.

    A fused implementation is taken where torch has one, unless the precision is ``16-mixed``: with a fused
    optimizer Lightning would leave gradients scaled while penalties and clipping read them.

    Args:
        recipe: Whose optimizer, parameter groups and weight decay.
        module: Whose parameters.
        precision: The Trainer's.
        total_steps: Optimizer steps of the training, for optimizers that need to know; infinite where unknown.

    Raises:
        UserError: For arguments that the optimizer does not take, or needs that cannot be met.
    """
    choice = chosen_optimizer(recipe)
    check_supported(optimizer_entry(choice))
    try:
        optimizer = _Builder(recipe, module, precision, total_steps).build(choice)
    except (TypeError, ValueError) as error:
        raise UserError(f"{optimizer_entry(choice).name} refuses its arguments: {error}", "optimizer") from error
    if precision == "16-mixed":
        _refuse_fused(optimizer)
    if any("lr" not in group for group in optimizer.param_groups):
        _refuse_rates(recipe, optimizer_entry(choice).name)
    return optimizer


def _refuse_rates(recipe: Recipe, name: str) -> None:
    """What sets or reads a group's rate, where an optimizer finds its steps by itself and has none."""
    schedule = cast(Choice, recipe.schedule)
    decays = any(choice.get("name") == "weight_decay" for choice in cast(Sequence[Choice], recipe.regularizers))
    where = {
        "schedule": schedule.get("name") != "constant" or len(schedule) > 1,
        "regularizers": decays,
        "parameters": any({"lr", "lr_scale"} & set(pattern) for pattern in recipe.parameters),
    }
    for key, is_asked in where.items():
        if is_asked:
            raise UserError(f"'{name}' finds its steps by itself: it has no learning rate to act on", key)


def _refuse_fused(optimizer: Optimizer) -> None:
    """Lightning leaves the gradients scaled for a fused optimizer: penalties and clipping would read them so."""
    for part in getattr(optimizer, "parts", (optimizer,)):
        if getattr(part, "_step_supports_amp_scaling", False):
            raise UserError(
                "a fused optimizer under 16-mixed gets scaled gradients, which penalties and clipping would read; "
                "leave fused out, or use bf16-mixed",
                "optimizer",
            )


class _Builder:
    """One call of :func:`build_optimizer`."""

    def __init__(self, recipe: Recipe, module: nn.Module, precision: str, total_steps: float) -> None:
        self.recipe = recipe
        self.module = module
        self.precision = precision
        self.total_steps = total_steps

    def build(self, choice: Choice) -> Optimizer:
        """Any optimizer."""
        inner, rest = wrapped_choice(choice), rest_choice(choice)
        if inner is not None:
            return self._wrapper(choice, inner)
        if rest is not None:
            return self._matrices_and_rest(choice, rest)
        entry, factory = optimizer_entry(choice), OPTIMIZERS.load(choice)
        arguments = self._arguments(choice)
        if "steps" in entry.needs:
            arguments.setdefault("num_iterations", self._steps(entry))
        if "model" in entry.needs:
            return self._of_model(entry, factory, arguments)
        groups = self._groups(entry, factory, arguments)
        if entry.name == "lbfgs":
            if len(groups) > 1:
                raise UserError("lbfgs takes one group of parameters", "parameters")
            return cast(Optimizer, factory(groups[0]["params"], **arguments))
        return cast(Optimizer, factory(groups, **arguments | self._fused(entry, groups, arguments)))

    def _arguments(self, choice: Choice) -> dict[str, Any]:
        arguments = arguments_of(choice)
        rate = optimizer_entry(choice).learning_rate
        return arguments if rate is None else {"lr": rate} | arguments

    def _groups(self, entry: OptimizerEntry, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> list[Group]:
        rates = self._rates(entry, factory, arguments)
        if "use_muon" not in entry.needs:
            return self._with_own_decay(entry, parameter_groups(self.module, self.recipe.parameters, rates))
        names = self._hidden_matrices(entry, _LARGEST_MATRIX)
        rest = Rates(
            arguments.get("adamw_lr", default_of(factory, "adamw_lr")),
            arguments.get("adamw_wd", default_of(factory, "adamw_wd")),
        )
        return parameter_groups(self.module, self.recipe.parameters, rates, names, rest)

    def _with_own_decay(self, entry: OptimizerEntry, groups: list[Group]) -> list[Group]:
        """Where the regularizer decays, beside an optimizer that could not, a pattern's decay is the regularizer's."""
        if not entry.decoupled and any(r.get("name") == "weight_decay" for r in self.recipe.regularizers):  # type: ignore[union-attr]
            for group in groups:
                if "weight_decay" in group:
                    group[OWN_DECAY] = group.pop("weight_decay")
        return groups

    def _rates(self, entry: OptimizerEntry, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Rates:
        lr = arguments.get("lr", default_of(factory, "lr"))
        if not entry.decoupled:
            return Rates(lr)
        decay = arguments.get("weight_decay", default_of(factory, "weight_decay"))
        for regularizer in self.recipe.regularizers:
            if regularizer.get("name") == "weight_decay":  # type: ignore[union-attr]
                decay = _decay_from_regularizer(regularizer, arguments)  # type: ignore[arg-type]
        return Rates(lr, decay)

    def _hidden_matrices(self, entry: OptimizerEntry, most: int) -> set[str]:
        names = hidden_matrices(self.module, most=most)
        if not names:
            raise UserError(
                f"'{entry.name}' is for matrices between hidden units, and {type(self.module).__name__} has none",
                "optimizer",
            )
        return names

    def _fused(self, entry: OptimizerEntry, groups: list[Group], arguments: Mapping[str, Any]) -> dict[str, bool]:
        if not entry.fused or self.precision == "16-mixed" or {"foreach", "fused", "differentiable"} & set(arguments):
            return {}
        parameters = [parameter for group in groups for parameter in group["params"]]
        # Of torch's fused forms two take sharded parameters, and none takes them beside plain ones.
        is_sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
        takes = not is_sharded or (entry.name in ("adam", "adamw") and len(alike(parameters)) == 1)
        return {"fused": takes and all(map(_fusible, parameters))}

    def _steps(self, entry: OptimizerEntry) -> int:
        if not math.isfinite(self.total_steps):
            raise UserError(f"'{entry.name}' needs an end: give the Trainer max_epochs or max_steps", "optimizer")
        return int(self.total_steps)

    def _of_model(self, entry: OptimizerEntry, factory: Callable[..., Any], arguments: dict[str, Any]) -> Optimizer:
        """One that makes its groups itself, from the net's structure."""
        if self.recipe.parameters:
            raise UserError(f"'{entry.name}' makes its own groups of parameters; leave it out", "parameters")
        return cast(Optimizer, factory(self.module, **arguments))

    def _wrapper(self, choice: Choice, inner: Choice) -> Optimizer:
        """One around another: around an instance, or (the SAM kind) around a class that it makes itself."""
        entry, factory = optimizer_entry(choice), OPTIMIZERS.load(choice)
        arguments = {key: value for key, value in arguments_of(choice).items() if key not in ("base_optimizer", "lr")}
        if "base_optimizer" not in inspect.signature(factory).parameters:
            return cast(Optimizer, factory(self.build(inner), **arguments))
        base_entry, base = optimizer_entry(inner), OPTIMIZERS.load(inner)
        base_arguments = self._arguments(inner)
        groups = self._groups(base_entry, base, base_arguments)
        base_arguments |= self._fused(base_entry, groups, base_arguments)
        if "model" in entry.needs:
            arguments["model"] = self.module
        made: Callable[..., Any] = with_gradient_first(factory) if "gradient" in entry.needs else factory
        return cast(Optimizer, made(params=groups, base_optimizer=base, **arguments, **base_arguments))

    def _matrices_and_rest(self, choice: Choice, rest: Choice) -> Optimizer:
        entry, factory = optimizer_entry(choice), OPTIMIZERS.load(choice)
        other, other_factory = optimizer_entry(rest), OPTIMIZERS.load(rest)
        arguments, other_arguments = self._arguments(choice), self._arguments(rest)
        arguments.pop("auxiliary", None)
        groups = parameter_groups(
            self.module,
            self.recipe.parameters,
            self._rates(entry, factory, arguments),
            self._hidden_matrices(entry, 2),
            self._rates(other, other_factory, other_arguments),
        )
        matrices = [group for group in groups if group["use_muon"]]
        others = [group for group in groups if not group["use_muon"]]
        if not matrices or not others:
            missing = "matrix" if not matrices else "other parameter"
            raise UserError(f"freezing has left no {missing} to train beside", "parameters")
        other_arguments |= self._fused(other, others, other_arguments)
        return MatricesAndRest(factory(matrices, **arguments), other_factory(others, **other_arguments))


def _decay_from_regularizer(regularizer: Mapping[str, Any], arguments: Mapping[str, Any]) -> float:
    from trainoff.modules.regularizers.weight_decay import WeightDecay

    if "weight_decay" in arguments:
        raise UserError("weight decay is given twice: in the optimizer and among the regularizers", "regularizers")
    return WeightDecay(**arguments_of(regularizer)).coefficient


def _fusible(parameter: torch.Tensor) -> bool:
    # On CPUs torch's fused SGD is wrong for bfloat16: 50 steps gave a loss of 0.88 in place of 0.34.
    is_safe = parameter.device.type != "cpu" or parameter.dtype in (torch.float32, torch.float64)
    return is_safe and parameter.is_floating_point() and parameter.layout == torch.strided


def default_of(factory: Callable[..., Any], argument: str) -> Any:
    """The default of an argument in a signature; ``None`` where it has none."""
    parameters = inspect.signature(factory).parameters
    if argument not in parameters or parameters[argument].default is inspect.Parameter.empty:
        return None
    return parameters[argument].default
