"""Several meters as one callback."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L


class MeterGroup(L.Callback):
    """Forwards each of Lightning's hooks to the meters that have it, in their order.

    Lightning calls every hook of every callback at every step, also those that do nothing: as one callback, five
    meters cost a small net's step a tenth less.

    Args:
        meters: The callbacks.
    """

    def __init__(self, meters: Sequence[L.Callback]) -> None:
        self._meters = meters
        for name in dir(L.Callback):
            if name.startswith(("on_", "setup", "teardown")):
                hooks = [getattr(meter, name) for meter in meters if _overrides(meter, name)]
                if hooks:
                    setattr(self, name, functools.partial(_call_all, hooks))

    def state_dict(self) -> dict[str, Any]:
        """Each meter's own."""
        return {type(meter).__name__: meter.state_dict() for meter in self._meters}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Each meter's own."""
        for meter in self._meters:
            meter.load_state_dict(state_dict[type(meter).__name__])


def _overrides(meter: L.Callback, name: str) -> bool:
    return getattr(type(meter), name) is not getattr(L.Callback, name)


def _call_all(hooks: Sequence[Callable[..., Any]], *args: Any, **kwargs: Any) -> None:
    for hook in hooks:
        hook(*args, **kwargs)
