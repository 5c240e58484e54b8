"""All registries under the names of their kinds; imports no torch."""

from __future__ import annotations

from trainoff.benchmarks.suite_registry import SUITES
from trainoff.datamodules.alteration_registry import ALTERATIONS
from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError, closest
from trainoff.modules.batch_regimes import BATCH_REGIMES
from trainoff.modules.initialisation import INITIALISATIONS
from trainoff.modules.nets import NETS
from trainoff.modules.nets.norms import NORMS
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.pruning import PRUNING
from trainoff.modules.registry import MODULES
from trainoff.modules.regularizers import REGULARIZERS
from trainoff.modules.schedules import SCHEDULES
from trainoff.modules.strategies import STRATEGIES
from trainoff.registry import Entry, Registry

KINDS: dict[str, Registry[Entry]] = {
    "suites": SUITES,
    "modules": MODULES,
    "nets": NETS,
    "norms": NORMS,
    "datamodules": DATAMODULES,
    "alterations": ALTERATIONS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "regularizers": REGULARIZERS,
    "pruning": PRUNING,
    "initialisations": INITIALISATIONS,
    "batch_regimes": BATCH_REGIMES,
    "strategies": STRATEGIES,
}


def registry_of(kind: str) -> Registry[Entry]:
    """A registry by its kind, singular or plural.

    Raises:
        UserError: For an unknown kind.
    """
    for known, registry in KINDS.items():
        if kind in (known, known.removesuffix("s"), known.removesuffix("ies") + "y"):
            return registry
    raise UserError(f"no kind is called '{kind}'{closest(kind, KINDS)}; there are {', '.join(KINDS)}")


def find(name: str) -> list[tuple[str, Entry]]:
    """All entries of that name with their kinds (``step`` could be several things).

    Raises:
        UserError: Where there is none.
    """
    found = [(kind, registry[name]) for kind, registry in KINDS.items() if name in registry]
    if not found:
        names = [known for registry in KINDS.values() for known in registry.names()]
        raise UserError(f"nothing is called '{name}'{closest(name, names)}; `trainoff list` shows all names")
    return found
