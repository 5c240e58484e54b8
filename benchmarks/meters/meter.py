"""What a meter keeps in a checkpoint, so that a resumed trial's record is that of an uninterrupted one."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L


class Meter(L.Callback):
    """A callback that measures; its attributes named in :attr:`kept` go into checkpoints and come back from them.

    They are plain data or tensors, so that a checkpoint loads with ``weights_only=True``.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """What has been measured so far."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self.kept:
            setattr(self, name, state_dict[name])
