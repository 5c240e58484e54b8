"""Torch's trackers of memory, as a training in Lightning's loop needs them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed._tools.mod_tracker import ModTracker
from torch.utils._pytree import tree_leaves


class _Totals:
    """What both trackers have in common here: sums for the device, none for each module."""

    _curr_mem_snap: dict[torch.device, dict[Any, int]]
    _peak_mem: dict[torch.device, int]
    _in_opt: bool
    _ref_class: Any

    def _update_peak_stats(self, peak_state: Any) -> None:
        """Torch's own looks at every module at every operation, which takes most of the time."""
        for device, kinds in self._curr_mem_snap.items():
            self._peak_mem[device] = max(self._peak_mem.get(device, 0), kinds["Total"])

    def _track_optimizer_states(self, kind: Any, optimizer: Any) -> None:
        """Torch's own takes every optimizer's state to be tensors by name."""
        for leaf in tree_leaves(dict(optimizer.state)):
            if isinstance(leaf, Tensor):
                self._update_and_maybe_create_winfos(leaf, self._ref_class.OPT)  # type: ignore[attr-defined]

    def total(self) -> int:
        """Bytes at this moment."""
        return sum(kinds["Total"] for kinds in self._curr_mem_snap.values())

    def of(self, *words: str) -> int:
        """Bytes at this moment of the kinds with these names."""
        return sum(
            size
            for kinds in self._curr_mem_snap.values()
            for kind, size in kinds.items()
            if getattr(kind, "value", "") in words
        )

    def peak(self) -> int:
        """The most bytes at one time."""
        return sum(self._peak_mem.values())

    def set_in_optimizer(self, is_in: bool) -> None:
        """Lightning runs forward and backward passes inside the optimizer's step: what is made there is not its."""
        self._in_opt = is_in


class _NoModules(ModTracker):
    """Follows no module: torch's hooks fail on gradients of gradients, and cost half of the time.

    What they would tell is whose memory it is; parameters and gradients are found without them.
    """

    def __enter__(self) -> _NoModules:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class Tracker(_Totals, MemTracker):
    """Of modules that are whole on the device."""

    def __init__(self) -> None:
        super().__init__()
        self._mod_tracker = _NoModules()  # type: ignore[no-untyped-call]


class ShardedTracker(_Totals, FSDPMemTracker):
    """Of FSDP2's."""

    def _instrument_optimizer(self) -> None:
        """Lightning builds the optimizer after the tracker has begun: whichever takes a step."""
        self._register_global_optimizer_hook()
