"""What a check finds, and how a list of checks is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from trainoff.benchmarks.quiet import quiet
from trainoff.errors import UserError
from trainoff.registry import Registry, normalise

Subject = TypeVar("Subject")

_LONGEST = 300  # characters of an exception's message; some libraries put a page into theirs


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        name: Of the check.
        ok: Whether the thing behaves; also where it does not offer what would be checked.
        detail: One line: what was measured, what is wrong, or what is not offered.
        offered: Whether there was anything to check.
    """

    name: str
    ok: bool
    detail: str
    offered: bool = True


class Misbehaviour(Exception):
    """Raised by a check that fails; its message is the finding's detail."""


class NotOffered(Exception):
    """Raised by a check of something that the thing says it does not offer; its message is the finding's detail."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One question about a subject.

    Args:
        name: Short, for the report.
        ask: Returns the detail of a passed check; raises :class:`NotOffered` where there is nothing to check, and
            :class:`Misbehaviour`, or anything else, for a failed one.
        needs: Names of earlier checks without which this one says nothing.
    """

    name: str
    ask: Callable[[Subject], str]
    needs: tuple[str, ...] = ()


def run_checks(checks: Sequence[Check[Subject]], subject: Subject) -> list[Finding]:
    """Run checks in order; one that needs a failed one is left out and named in that one's detail.

    Args:
        checks: Each after those that it needs.
        subject: What is asked about.
    """
    findings: dict[str, Finding] = {}
    left_out: dict[str, str] = {}  # a check's name -> the failed one that is the cause
    for check in checks:
        causes = [left_out.get(need, need) for need in check.needs if need in left_out or not findings[need].ok]
        if causes:
            left_out[check.name] = causes[0]
        else:
            findings[check.name] = _find(check, subject)
    for cause in set(left_out.values()):
        unchecked = ", ".join(name for name, reason in left_out.items() if reason == cause)
        findings[cause] = replace(findings[cause], detail=f"{findings[cause].detail} (so not checked: {unchecked})")
    return list(findings.values())


def _find(check: Check[Subject], subject: Subject) -> Finding:
    try:
        with quiet():
            return Finding(check.name, True, check.ask(subject))
    except NotOffered as reason:
        return Finding(check.name, True, one_line(reason), offered=False)
    except Exception as error:  # a third party's code may raise anything, and its report must go on
        return Finding(check.name, False, one_line(error))


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and its message; the message alone where it was written for users."""
    message = " ".join(str(error).split())
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}..."
    if isinstance(error, (Misbehaviour, NotOffered, UserError)):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def find_target(registry: Registry[Any], target: str) -> tuple[dict[str, Any], Any]:
    """A name or class path as a choice, and what it names.

    Raises:
        UserError: Where there is no such thing, or importing it fails.
    """
    choice = normalise(target, registry.kind)
    try:
        return choice, registry.load(choice)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"importing it raises {one_line(error)}", f"{registry.kind} {target}") from error
