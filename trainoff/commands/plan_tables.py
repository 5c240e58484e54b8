"""Plans as text for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from trainoff.benchmarks.planning.net_plan import NetPlan
from trainoff.benchmarks.planning.strategy_plan import StrategyMemory
from trainoff.benchmarks.planning.suite_plan import PairPlan, SuitePlan

_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def net_text(plan: NetPlan) -> str:
    """A header, a row a strategy, the time of a step, notes."""
    training, parameters = plan.training, plan.strategies[0].memory.parameter_count
    name = training.net.get("name") or training.net["class_path"]
    shape = " x ".join(map(str, training.input_shape))
    devices = f"{plan.devices} devices" if plan.devices > 1 else "1 device"
    having = "" if plan.memory is None else f" of {size_text(plan.memory)}"
    lines = [
        f"{name} as {training.module}: {parameters:,} parameters; inputs {shape}, {training.output_size:,} outputs",
        f"recipe {plan.recipe.name}; batch {plan.samples} on {devices}{having}; kernels of a {plan.kernels.upper()}",
        "",
        *_strategies(plan.strategies, plan.memory),
        "",
        f"{count_text(plan.flops_per_step)}FLOP a step, forward and backward. On this machine, one device: "
        f"{seconds_text(plan.step.seconds)} a step,",
        f"  {plan.step.how}.",
    ]
    lines += [shortened(f"{name}: not planned: {why}", 100) for name, why in plan.refused.items()]
    if any(row.how == "formula" for row in plan.strategies):
        lines.append(
            "formula: the tracked numbers of one device, divided as the strategy does; all others are tracked."
        )
    if plan.memory is not None:
        lines.append(
            "barely: less than a tenth would be free, of which a GPU's own context and fragmentation take some."
        )
    return "\n".join(lines)


def suite_text(plan: SuitePlan) -> str:
    """A row a recipe on a task, the time of all, notes."""
    heads = ["task", "recipe", "strategy", "params", "states", "activations", "peak"]
    heads += [] if plan.memory is None else ["fits"]
    rows = [_pair_row(pair, plan.memory) for pair in plan.pairs]
    workers = f"{plan.workers} workers" if plan.workers > 1 else "1 worker"
    ways = sorted({pair.time.how for pair in plan.pairs})
    lines = [
        f"suite {plan.suite}: {plan.trials:,} trials on {workers}: about {seconds_text(plan.seconds)}",
        "",
        *aligned([[*heads, "steps", "a trial", "trials"], *rows], left=3),
        "",
        f"Bytes on each device, kernels of a {plan.kernels.upper()}; states: gradients, optimizer and copies.",
        f"Time: {'; '.join(ways[:3])}; each trial alone on its processor.",
    ]
    if any("scaled" in way for way in ways):
        lines.append("scaled: by its operations, from another recipe on the task; the time for such trials was over.")
    return "\n".join(lines)


def _pair_row(pair: PairPlan, device_memory: int | None) -> list[str]:
    found, memory = pair.strategy, pair.strategy.memory
    name = found.strategy if found.devices == 1 else f"{found.strategy} x {found.devices}"
    return [
        shortened(pair.task, 18),
        shortened(pair.recipe, 22),
        "single" if name == "single_device" else name,
        size_text(memory.parameters),
        size_text(memory.gradients + memory.optimizer_state + memory.copies),
        size_text(memory.activations),
        size_text(memory.peak),
        *_fits(memory.peak, device_memory),
        f"{pair.time.steps:,}",
        seconds_text(pair.time.seconds),
        f"{pair.trials:,}",
    ]


def shortened(text: str, width: int) -> str:
    """The text, its end cut off where it is longer."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _strategies(rows: Sequence[StrategyMemory], device_memory: int | None) -> list[str]:
    heads = ["strategy", "samples", "params", "grads", "optimizer", "copies", "activations", "peak"]
    table = [
        [
            row.strategy,
            str(row.samples),
            *map(
                size_text,
                (
                    row.memory.parameters,
                    row.memory.gradients,
                    row.memory.optimizer_state,
                    row.memory.copies,
                    row.memory.activations,
                    row.memory.peak,
                ),
            ),
            *_fits(row.memory.peak, device_memory),
            row.how,
        ]
        for row in rows
    ]
    fits = [] if device_memory is None else ["fits"]
    return aligned([[*heads, *fits, "how"], *table], left=1)


def _fits(peak: int, device_memory: int | None) -> list[str]:
    """A cell where it is known what a device has: a peak within the last tenth of it fits barely."""
    if device_memory is None:
        return []
    return ["no" if peak > device_memory else "barely" if peak > 0.9 * device_memory else "yes"]


def aligned(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of columns, the first ``left`` ones flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def size_text(size: int) -> str:
    """``1.5 GiB``, in three digits."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size < 999.5 * unit else f"{size / unit:.0f} {name}"
    return f"{size} B"


def count_text(number: float) -> str:
    """``1.5 T``, for a unit to follow."""
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.3g} "


def seconds_text(seconds: float) -> str:
    """``1.2 s``, ``3.4 ms``, ``2 h 05 min``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60:,} h {minutes % 60:02} min"
