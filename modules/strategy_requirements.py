"""What a strategy needs of the machine and of the recipe beside it: said at the start, in one line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from trainoff.errors import UserError
from trainoff.modules.signatures import bind_arguments
from trainoff.modules.strategies import STRATEGIES
from trainoff.registry import arguments_of, normalise

if TYPE_CHECKING:
    from trainoff.modules.recipe import Choice, Recipe

# Of a recipe's strategy, what is the Trainer's and not the strategy's own.
TRAINER_OPTIONS = ("devices", "nodes", "sync_batchnorm")
_PACKAGES = {"deepspeed": "deepspeed", "xla": "torch_xla"}
_ON_GPUS = ("fsdp", "deepspeed")
_MODEL_PARALLEL_PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-true")


def strategy_name(recipe: Recipe) -> str:
    """The name of a recipe's strategy; empty where it has none, or one by its class path."""
    return str(cast("Choice", recipe.strategy).get("name", "")) if recipe.strategy is not None else ""


def processes_of(strategy: str | Mapping[str, Any] | None) -> int:
    """Processes on one machine that a recipe's strategy asks for, where the Trainer would take one if it said nothing.

    Args:
        strategy: As a recipe has it.
    """
    if strategy is None:
        return 1
    devices = arguments_of(normalise(dict(strategy) if isinstance(strategy, Mapping) else strategy, "strategy")).get(
        "devices", 1
    )
    if isinstance(devices, (list, tuple)):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    number = -1 if devices == "auto" else int(devices)
    return max(_accelerators(), 1) if number == -1 else number


def keeps_parameters_whole(strategy: str | Mapping[str, Any] | None) -> bool:
    """Whether each process holds all parameters, as far as is known of the strategy.

    Args:
        strategy: As a recipe has it.
    """
    name = normalise(dict(strategy) if isinstance(strategy, Mapping) else strategy or "auto", "strategy").get("name")
    return name in ("auto", "single_device", "ddp", "ddp_spawn")


def mesh_of(recipe: Recipe) -> tuple[int, int]:
    """The sizes of a recipe's ``model_parallel``: data parallel, tensor parallel; by Lightning's defaults."""
    choice = cast("Choice", recipe.strategy)
    options = arguments_of(choice)
    data, tensor = options.get("data_parallel_size", "auto"), options.get("tensor_parallel_size", "auto")
    nodes = int(options.get("nodes", 1))
    return nodes if data == "auto" else int(data), processes_of(choice) if tensor == "auto" else int(tensor)


def check_options(recipe: Recipe) -> None:
    """Refuse options that the strategy does not take, and numbers that contradict one another.

    Raises:
        UserError: Naming the option.
    """
    if recipe.strategy is None:
        return
    choice = cast("Choice", recipe.strategy)
    name, options = strategy_name(recipe), arguments_of(choice)
    _check_devices(options)
    if name == "single_device" and options.get("devices", 1) not in (1, "1", "auto"):
        raise UserError(f"single_device has one device, not {options['devices']}", "strategy.devices")
    own = {key: value for key, value in options.items() if key not in TRAINER_OPTIONS}
    if name in ("auto", "single_device"):
        if own:
            raise UserError(f"takes devices only, not '{next(iter(own))}'", "strategy")
        return
    if name not in _PACKAGES:  # whose classes may be there without what they need
        _check_own(choice, own)
    if name == "model_parallel":
        _check_mesh(recipe, options)


def check_requirements(recipe: Recipe) -> None:
    """Refuse a strategy whose package or whose devices this machine lacks.

    Raises:
        UserError: Naming what is missing.
    """
    check_package(recipe)
    name = strategy_name(recipe)
    options = arguments_of(cast("Choice", recipe.strategy)) if recipe.strategy is not None else {}
    gpus = _accelerators()
    if name in _ON_GPUS and not gpus:
        raise UserError(f"'{name}' runs on GPUs only, and there is none; on CPUs model_parallel shards", "strategy")
    wanted = processes_of(cast("Choice", recipe.strategy)) if recipe.strategy is not None else 1
    if gpus and wanted > gpus:
        raise UserError(
            f"asks for {wanted} devices; there {'is 1' if gpus == 1 else f'are {gpus}'}", "strategy.devices"
        )
    if options.get("sync_batchnorm") and not gpus:
        raise UserError("torch's SyncBatchNorm runs on accelerators only; leave it out", "strategy.sync_batchnorm")


def check_package(recipe: Recipe) -> None:
    """Refuse a strategy whose package is not installed.

    Raises:
        UserError: Naming it.
    """
    name = strategy_name(recipe)
    package = _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise UserError(f"'{name}' needs the package {package}, which is not installed", "strategy")


def _check_own(choice: Choice, options: Mapping[str, Any]) -> None:
    """Against the strategy's signature; what ddp and fsdp do not know themselves they hand on to torch's wrapper."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.nn.parallel import DistributedDataParallel

    factory: Any = STRATEGIES.load(choice)
    wrapper = {"ddp": DistributedDataParallel, "ddp_spawn": DistributedDataParallel, "fsdp": FullyShardedDataParallel}
    known = set(inspect.signature(factory).parameters)
    given = {"accelerator", "parallel_devices", "cluster_environment", "checkpoint_io", "precision_plugin"}
    handed_on = {key: value for key, value in options.items() if key not in known}
    if handed_on and choice.get("name") in wrapper:
        names = known - given - {"kwargs"} | set(TRAINER_OPTIONS)
        bind_arguments(wrapper[choice["name"]], handed_on, "strategy", given={"module"}, extra=names)
        options = {key: value for key, value in options.items() if key in known}
    bind_arguments(factory, options, "strategy", given=given, extra=set(TRAINER_OPTIONS))


def _check_devices(options: Mapping[str, Any]) -> None:
    for key in ("devices", "nodes"):
        value = options.get(key, 1)
        if isinstance(value, bool) or (
            isinstance(value, int) and value < 1 and not (key == "devices" and value == -1)
        ):
            raise UserError(f"{value!r} is not a number from 1", f"strategy.{key}")


def _check_mesh(recipe: Recipe, options: Mapping[str, Any]) -> None:
    if recipe.precision is not None and recipe.precision not in _MODEL_PARALLEL_PRECISIONS:
        raise UserError(
            f"model_parallel runs in {', '.join(_MODEL_PARALLEL_PRECISIONS)}, not in {recipe.precision}", "precision"
        )
    data, tensor = mesh_of(recipe)
    devices, nodes = processes_of(cast("Choice", recipe.strategy)), int(options.get("nodes", 1))
    if data * tensor != devices * nodes:
        raise UserError(
            f"data_parallel_size {data} times tensor_parallel_size {tensor} is not {devices * nodes}, the number of "
            "devices; say both",
            "strategy",
        )


def _accelerators() -> int:
    """GPUs that this process may use, without waking them."""
    import torch

    return torch.cuda.device_count()
