"""The Recipe: all that may differ between two trainings of one LightningModule on one DataModule.

A recipe is plain data: names and arguments, normalised once when it is made, built into optimizers, schedules
and callbacks late, when the Trainer asks for them. Importing it needs neither torch nor lightning.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from trainoff.errors import UserError, closest
from trainoff.modules.initialisation import INITIALISATIONS
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.pruning import PRUNING
from trainoff.modules.regularizers import REGULARIZERS
from trainoff.modules.schedules import SCHEDULES
from trainoff.modules.strategies import STRATEGIES
from trainoff.registry import Registry, arguments_of, normalise

if TYPE_CHECKING:
    import lightning as L

Choice = dict[str, Any]
AnyModule = TypeVar("AnyModule", bound="L.LightningModule")

# Arguments of an optimizer that name another one.
NESTED_CHOICES = {"base_optimizer", "auxiliary"}

# Of torch.compile.
COMPILE_OPTIONS = ("backend", "mode", "options", "fullgraph", "dynamic")

PRECISIONS = (
    "32-true",
    "16-mixed",
    "bf16-mixed",
    "16-true",
    "bf16-true",
    "64-true",
    "transformer-engine",
    "transformer-engine-float16",
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a LightningModule is trained.

    Each choice is a name, ``{name: ..., argument: value}``, or ``{class_path: ..., init_args: {...}}``; they are
    kept as mappings. Two recipes that say the same thing are equal.

    Args:
        optimizer: See ``trainoff list optimizers``.
        schedule: The learning rate over time; see ``trainoff list schedules``.
        regularizers: Any number of them; see ``trainoff list regularizers``.
        batch: The global batch, in samples, whatever the number of devices; ``full`` for the whole training
            split; nothing for the DataModule's own.
        microbatches: Split each batch into this many parts, forwarded one after the other; their gradients are
            averaged with each part's true weight, so that the step equals the undivided one. (Batch norm's
            statistics and losses that average over something other than samples are exceptions.)
        initialisation: Of the weights; see ``trainoff list initialisations``.
        precision: Lightning's name, such as ``bf16-mixed``; nothing for whatever the Trainer has.
        strategy: Lightning's name, ``{name: ddp, devices: 2, nodes: 1, sync_batchnorm: true}``; nothing for
            whatever the Trainer has.
        parameters: Groups by name pattern, the first match counts:
            ``[{match: "backbone.*", lr_scale: 0.1}, {match: "embed.*", freeze: true}]``.
        pruning: Which weights are set to zero, and when; see ``trainoff list pruning``.
        compile: ``true``, or arguments of ``torch.compile`` such as ``{mode: max-autotune}``: the net is compiled.
        activation_checkpointing: ``true``, or ``{match: "blocks.*"}``: the net's blocks keep their inputs only, and
            are computed again in the backward pass. Less memory, more time, the same result.

    Raises:
        UserError: For an unknown name, a number that is not finite, a batch below 1.
    """

    optimizer: str | dict[str, Any] = "adamw"
    schedule: str | dict[str, Any] = "constant"
    regularizers: Sequence[str | dict[str, Any]] = ()
    batch: int | str | None = None
    microbatches: int = 1
    initialisation: str | dict[str, Any] = "default"
    precision: str | int | None = None
    strategy: str | dict[str, Any] | None = None
    parameters: Sequence[dict[str, Any]] = ()
    pruning: str | dict[str, Any] | None = None
    compile: bool | dict[str, Any] | None = None
    activation_checkpointing: bool | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        def settle(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        for field in dataclasses.fields(self):
            if not isinstance(getattr(self, field.name), str):
                settle(field.name, _plain(getattr(self, field.name)))

        settle("optimizer", _choice(self.optimizer, "optimizer", OPTIMIZERS))
        settle("schedule", _choice(self.schedule, "schedule", SCHEDULES))
        settle("initialisation", _choice(self.initialisation, "initialisation", INITIALISATIONS))
        if isinstance(self.regularizers, (str, Mapping)):
            raise UserError("is a list; write [l2] or [{name: l2, coefficient: 1e-4}]", "regularizers")
        settle(
            "regularizers",
            tuple(_choice(r, f"regularizers[{i}]", REGULARIZERS) for i, r in enumerate(self.regularizers)),
        )
        if self.strategy is not None:
            settle("strategy", _choice(self.strategy, "strategy", STRATEGIES))
        if self.pruning is not None:
            settle("pruning", _choice(self.pruning, "pruning", PRUNING))
        settle("compile", _switch(self.compile, "compile", COMPILE_OPTIONS))
        checkpointing = _switch(self.activation_checkpointing, "activation_checkpointing", ("match",))
        settle("activation_checkpointing", checkpointing)
        settle("parameters", tuple(dict(group) for group in self.parameters))
        self._check_batch()
        self._check_precision()

    def _check_batch(self) -> None:
        if self.batch is not None and self.batch != "full" and not (_is_whole(self.batch) and int(self.batch) >= 1):
            raise UserError(f"{self.batch!r} is neither a number of samples from 1 nor 'full'", "batch")
        if not _is_whole(self.microbatches) or self.microbatches < 1:
            raise UserError(f"{self.microbatches!r} is not a whole number from 1", "microbatches")
        if isinstance(self.batch, int) and self.microbatches > self.batch:
            raise UserError(f"{self.microbatches} parts of a batch of {self.batch} samples", "microbatches")

    def _check_precision(self) -> None:
        if self.precision is None:
            return
        # Lightning takes bare numbers too; one spelling, so that equal recipes are equal.
        long_form = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}
        precision = long_form.get(str(self.precision), str(self.precision))
        if precision not in PRECISIONS:
            raise UserError(f"no precision is called '{precision}'{closest(precision, PRECISIONS)}", "precision")
        object.__setattr__(self, "precision", precision)

    @classmethod
    def of(cls, recipe: Recipe | str | Mapping[str, Any]) -> Recipe:
        """A Recipe from a Recipe, from a mapping of its fields, or from names joined by ``-``.

        The first name is the optimizer's; the others may be a schedule's, a regularizer's, a pruning method's or an
        initialisation's in any order: ``"adamw-cosine-label_smoothing"``.

        Raises:
            UserError: For an unknown field or name.
        """
        if isinstance(recipe, Recipe):
            return recipe
        if isinstance(recipe, str):
            return cls(**_fields_from_names(recipe))
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in recipe:
            if key not in fields:
                raise UserError(f"a recipe has no '{key}'{closest(key, fields)}; it has {', '.join(fields)}", key)
        return cls(**recipe)

    @property
    def name(self) -> str:
        """The names of its choices joined by ``-``, defaults left out: ``adamw-cosine-l2``."""
        parts = [_label(self.optimizer)]
        if _label(self.schedule) != "constant":
            parts.append(_label(self.schedule))
        parts += [_label(choice) for choice in self.regularizers]
        if self.pruning is not None:
            parts.append(_label(self.pruning))
        if _label(self.initialisation) != "default":
            parts.append(_label(self.initialisation))
        if self.batch is not None:
            parts.append(f"batch{self.batch}")
        parts += [field for field in ("compile", "activation_checkpointing") if getattr(self, field) is not None]
        return "-".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``Recipe(**...)`` takes back: strings, numbers, lists and mappings."""
        fields = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {key: value for key, value in fields.items() if value is not None}

    def trainer_arguments(self) -> dict[str, Any]:
        """What only a Trainer can hold: ``L.Trainer(**recipe.trainer_arguments(), max_epochs=...)``."""
        arguments: dict[str, Any] = {}
        if self.precision is not None:
            arguments["precision"] = self.precision
        if self.microbatches > 1:
            arguments["accumulate_grad_batches"] = self.microbatches
        if self.strategy is not None:
            options = arguments_of(cast(Choice, self.strategy))
            if "devices" in options:
                arguments["devices"] = options.pop("devices")
            if "nodes" in options:
                arguments["num_nodes"] = options.pop("nodes")
            if "sync_batchnorm" in options:
                arguments["sync_batchnorm"] = options.pop("sync_batchnorm")
            choice = cast(Choice, self.strategy)
            plain_name = "name" in choice and not options
            arguments["strategy"] = choice["name"] if plain_name else STRATEGIES.load(choice)(**options)
        return arguments

    def validate(self) -> None:
        """Check every argument against the signature of what it is for; imports torch and the classes named.

        Raises:
            UserError: For an argument that the named thing does not take, or a value that it refuses.
        """
        from trainoff.modules.validation import validate_recipe

        validate_recipe(self)

    def apply(self, module: AnyModule) -> AnyModule:
        """Make any LightningModule train by this recipe, and return it.

        On trainoff's own modules the recipe replaces theirs. On any other, the instance's
        ``configure_optimizers`` is replaced and its ``configure_callbacks`` extended; applying again replaces
        again. What only a Trainer can hold comes from :meth:`trainer_arguments`, and is checked when fit starts.

        Raises:
            UserError: Where the recipe cannot act on this module.
        """
        from trainoff.modules.applying import apply_recipe

        apply_recipe(self, module)
        return module


def _choice(value: object, where: str, registry: Registry[Any]) -> Choice:
    choice = normalise(cast(Any, value), where)
    if "name" in choice and choice["name"] not in registry:
        name = choice["name"]
        raise UserError(f"no {registry.kind} is called '{name}'{closest(name, registry.names())}", where)
    arguments = choice["init_args"] if "class_path" in choice else choice
    for key in NESTED_CHOICES & set(arguments):
        arguments[key] = _choice(arguments[key], f"{where}.{key}", registry)
    _check_finite(choice, where)
    return choice


def _switch(value: object, where: str, keys: Sequence[str]) -> Literal[True] | dict[str, Any] | None:
    """``True``, options, or None for off."""
    if value is None or value is False:
        return None
    if value is True or value == {}:
        return True
    if not isinstance(value, Mapping):
        raise UserError(f"{value!r} is neither true nor false, nor a mapping of {', '.join(keys)}", where)
    for key in value:
        if key not in keys:
            raise UserError(f"there is no '{key}'{closest(key, keys)}; there are {', '.join(keys)}", f"{where}.{key}")
    return dict(value)


def _check_finite(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_finite(item, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{value} is not a finite number", where)
    elif where.rsplit(".", 1)[-1] == "lr" and isinstance(value, (int, float)) and value < 0:
        raise UserError(f"a learning rate of {value} is negative", where)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _label(choice: object) -> str:
    mapping = cast(Choice, choice)
    return str(mapping.get("name") or mapping["class_path"].rpartition(".")[2])


def _plain(value: object) -> Any:
    """As Python's own types: NumPy's numbers, which ``np.logspace`` gives, do not load with ``weights_only=True``."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if type(value).__module__ == "numpy":
        return _plain(cast(Any, value).tolist())
    return value


def _fields_from_names(names: str) -> dict[str, Any]:
    first, *others = names.split("-")
    fields: dict[str, Any] = {"optimizer": first, "regularizers": []}
    for name in others:
        if name in SCHEDULES:
            fields["schedule"] = name
        elif name in REGULARIZERS:
            fields["regularizers"].append(name)
        elif name in PRUNING:
            fields["pruning"] = name
        elif name in INITIALISATIONS:
            fields["initialisation"] = name
        else:
            known = [*SCHEDULES.names(), *REGULARIZERS.names(), *PRUNING.names(), *INITIALISATIONS.names()]
            raise UserError(
                f"no schedule, regularizer, pruning method or initialisation is called '{name}'{closest(name, known)}",
                f"recipe '{names}'",
            )
    return fields
