"""The command line. Each command imports what it needs when it runs: ``--help`` imports neither torch nor rich."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from trainoff import __version__
from trainoff.errors import UserError, closest
from trainoff.output import drop, is_full, tolerate_any_encoding

FORMATS = ("terminal", "markdown", "html", "csv", "json", "latex")
EXECUTORS = ("local", "ray", "slurm")
COSTS = ("parameters", "flops", "latency")
_JSON = "print plain data, for a program to read"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Without the program's name; those of the process by default.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 143 after SIGTERM.
    """
    tolerate_any_encoding()
    if arguments is None and sys.argv[1:2] != ["fit"]:  # where Lightning sets its own
        signal.signal(signal.SIGTERM, _end_in_order)
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout is not None:  # None where the caller closed it
            sys.stdout.flush()
        return status
    except UserError as error:
        print(f"trainoff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if arguments is None:
            # The process ends now: a second signal would only turn the clean-up into a traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("trainoff: interrupted; finished trials keep their records", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130
    except BrokenPipeError:
        drop()  # the reader (`| head`) has gone
        return 0
    except OSError as error:
        if not is_full(error):
            raise
        drop()
        print(f"trainoff: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a job scheduler sends it: ends the run as Ctrl-C does."""


def _end_in_order(*_: object) -> NoReturn:
    raise _Terminated


def _run(given: list[str]) -> int:
    """Run a command's module; its classes by path may lie in the working directory, behind what is installed."""
    import importlib

    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    if given[:1] == ["fit"]:  # LightningCLI reads its own arguments
        return int(importlib.import_module("trainoff.commands.fit").command(given[1:]) or 0)
    parser, commands = _parser()
    if given and not given[0].startswith("-") and given[0] not in commands:
        raise UserError(
            f"no command is called '{given[0]}'{closest(given[0], commands)}; there are {', '.join(commands)}"
        )
    dotted = _take_dotted(given) if given[:1] == ["plan"] else []
    parsed = parser.parse_args(given)
    parsed.dotted = dotted
    if parsed.command is None:
        parser.print_help()
        return 0
    return int(importlib.import_module(f"trainoff.commands.{parsed.command}").command(parsed) or 0)


def _take_dotted(given: list[str]) -> list[tuple[str, str]]:
    """Take arguments such as ``--net.width 64`` or ``--net.width=64`` out, which argparse does not know.

    Raises:
        UserError: For one without a value.
    """
    taken: list[tuple[str, str]] = []
    for place in reversed([i for i, argument in enumerate(given) if argument.startswith(("--net.", "--recipe."))]):
        flag, equals, value = given.pop(place).partition("=")
        if not equals:
            if place == len(given):
                raise UserError("has no value", flag)
            value = given.pop(place)
        taken.insert(0, (flag, value))
    return taken


class _Parser(argparse.ArgumentParser):
    """Argparse with the error style of trainoff: one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as a :class:`UserError`."""
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> tuple[_Parser, list[str]]:
    """The parser, and the names of the commands."""
    parser = _Parser(
        prog="trainoff",
        description="Which way of training should I use? Train a task under many recipes and compare them.",
        epilog="`trainoff COMMAND --help` says more of each.",
    )
    parser.add_argument("--version", action="version", version=f"trainoff {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    _add_search(commands)
    _add_board(commands)
    _add_compare(commands)
    _add_publish(commands)
    _add_pull(commands)
    _add_list(commands)
    _add_show(commands)
    _add_check(commands)
    commands.add_parser("fit", help="one training through LightningCLI (its own arguments)")
    return parser, list(commands.choices)


Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_run(commands: Commands[_Parser]) -> None:
    run = commands.add_parser("run", help="run what is missing of a suite, then print its board")
    run.add_argument("suite", metavar="SUITE", help="a shipped name (trainoff list suites) or a YAML file")
    _add_executor(run)
    run.add_argument("--scale", metavar="NAME", help="the suite at another size, such as full, where it has one")
    run.add_argument("--seeds", type=int, metavar="N", help="final seeds, in place of the suite's")
    run.add_argument("--only", metavar="PATTERN", help="recipes whose names match, as in 'adamw*'")
    run.add_argument("--out", metavar="DIR", help="the run folder; runs/<suite> by default")
    run.add_argument("--dry-run", action="store_true", help="say what would be run, and run nothing")
    run.add_argument(
        "--rerun",
        default="",
        choices=("failed", "all"),
        help="run finished trials again: the failed ones, or all",
    )
    run.add_argument("--wandb", metavar="PROJECT", help="each trial is a Weights & Biases run while it trains")
    run.add_argument("--entity", metavar="E", help="of --wandb: the user or team; the account's own by default")
    run.add_argument("--json", action="store_true", help="the board as JSON rows")


def _add_executor(run: _Parser) -> None:
    run.add_argument("--executor", choices=EXECUTORS, default="local", help="where trials run; local by default")
    run.add_argument(
        "--workers", type=_positive, metavar="N", help="trials at a time; one a processor, or what a cluster has"
    )
    run.add_argument("--cpus", type=_positive, metavar="N", help="processors and threads of each trial; 1 by default")
    run.add_argument("--gpus", type=_whole, metavar="N", help="GPUs of its own for each trial")
    run.add_argument("--memory-limit", metavar="SIZE", help="end a trial that holds more, such as 4GB")
    run.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster; started here by default")
    run.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of sbatch, such as partition=gpu"
    )


def _add_plan(commands: Commands[_Parser]) -> None:
    plan = commands.add_parser("plan", help="memory under each strategy, and time, before anything is trained")
    plan.add_argument("suite", nargs="?", metavar="SUITE", help="a suite, by name or file; or --net")
    plan.add_argument("--net", metavar="NET", help="a name, or '{name: gpt2, width: 1600}'; or --net.width 1600")
    plan.add_argument(
        "--recipe", metavar="RECIPE", help="as adamw-cosine-ema, or a mapping; or --recipe.precision ..."
    )
    plan.add_argument("--module", metavar="NAME", help="that trains the net; by default what suits it")
    plan.add_argument("--input-shape", metavar="SHAPE", help="of one sample, as 3,224,224; ImageNet's or GPT-2's")
    plan.add_argument("--output-size", type=_positive, metavar="N", help="classes, or different tokens")
    plan.add_argument("--batch", type=_positive, metavar="N", help="samples in a step, over all devices; 32")
    plan.add_argument("--strategy", metavar="NAME", help="ddp, fsdp, ...; all of them by default")
    plan.add_argument("--devices", type=_positive, metavar="N", help="that share the batch; 1 by default")
    plan.add_argument("--memory", metavar="SIZE", help="of a device, as 80GB: says what fits")
    plan.add_argument("--kernels", choices=("gpu", "cpu"), help="whose attention is planned")
    plan.add_argument("--scale", metavar="NAME", help="the suite at another size, such as full")
    plan.add_argument("--workers", type=_positive, metavar="N", help="that a suite's time is for; one a processor")
    plan.add_argument("--json", action="store_true", help=_JSON)


def _add_search(commands: Commands[_Parser]) -> None:
    search = commands.add_parser("search", help="architecture search over a suite's net, then its board")
    search.add_argument("suite", metavar="SUITE", help="a suite with `search` in its task's module, by name or file")
    search.add_argument("--trials", type=_positive, required=True, metavar="N", help="different candidates to try")
    search.add_argument(
        "--cost", choices=COSTS, default="", help="what accuracy is held against; parameters by default"
    )
    search.add_argument(
        "--population", type=_positive, default=8, metavar="N", help="candidates in a generation; 8 by default"
    )
    search.add_argument("--seed", type=int, default=0, metavar="N", help="of the search, not of the trainings; 0")
    search.add_argument(
        "--workers", type=_positive, metavar="N", help="processes; 1 for latency, else one a processor"
    )
    search.add_argument("--out", metavar="DIR", help="the run folder; runs/<suite> by default")
    search.add_argument("--json", action="store_true", help="the board as JSON rows")


def _add_board(commands: Commands[_Parser]) -> None:
    board = commands.add_parser("board", help="the board of one or more run folders")
    board.add_argument("folders", nargs="+", metavar="DIR", help="run folders; a trial in two of them counts once")
    board.add_argument(
        "--format", choices=FORMATS, default="terminal", help="terminal by default; the others in UTF-8"
    )
    board.add_argument("--json", action="store_true", help="the same as --format json")


def _add_compare(commands: Commands[_Parser]) -> None:
    compare = commands.add_parser("compare", help="two recipes, paired by task and seed")
    compare.add_argument("folder", metavar="DIR", help="a run folder")
    compare.add_argument("first", metavar="A", help="a recipe, as the board writes it")
    compare.add_argument("second", metavar="B", help="another one")
    compare.add_argument("--json", action="store_true", help=_JSON)


def _add_publish(commands: Commands[_Parser]) -> None:
    publish = commands.add_parser("publish", help="a run folder as Weights & Biases runs and a Report")
    publish.add_argument("folder", metavar="DIR", help="a run folder")
    publish.add_argument("--project", required=True, metavar="P", help="the W&B project; made where it is missing")
    publish.add_argument("--entity", metavar="E", help="its user or team; the account's own by default")
    publish.add_argument(
        "--offline", action="store_true", help="write runs for `wandb sync` and the Report as a page; no network"
    )


def _add_pull(commands: Commands[_Parser]) -> None:
    pull = commands.add_parser("pull", help="records back from the runs that were published")
    pull.add_argument("project", metavar="PROJECT", help="the W&B project")
    pull.add_argument("--entity", metavar="E", help="its user or team; the account's own by default")
    pull.add_argument("--out", metavar="DIR", help="the run folder; runs/<project> by default")


def _add_list(commands: Commands[_Parser]) -> None:
    listing = commands.add_parser("list", help="what can be named in a recipe or a suite")
    listing.add_argument("kind", nargs="?", metavar="KIND", help="suites, nets, optimizers, ...; all kinds without")
    listing.add_argument("--json", action="store_true", help=_JSON)


def _add_show(commands: Commands[_Parser]) -> None:
    show = commands.add_parser("show", help="one name: what it does, its formula, arguments, paper")
    show.add_argument("name", metavar="NAME", help="any name that trainoff list shows")
    show.add_argument("--json", action="store_true", help=_JSON)


def _add_check(commands: Commands[_Parser]) -> None:
    check = commands.add_parser("check", help="does my own optimizer, regularizer, net, DataModule or suite behave?")
    kinds = ("optimizer", "regularizer", "net", "datamodule", "suite")
    check.add_argument("kind", metavar="KIND", choices=kinds, help=f"{', '.join(kinds[:-1])} or {kinds[-1]}")
    check.add_argument("target", metavar="CLASS", help="package.module.Class, a name, or a suite's path")
    check.add_argument("--json", action="store_true", help=_JSON)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return number


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return int(text)
