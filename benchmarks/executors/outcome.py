"""What every executor takes and gives: payloads in, one outcome for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, TypeVar

Payload = TypeVar("Payload")
Result = TypeVar("Result")
_Taken = TypeVar("_Taken", contravariant=True)


@dataclass(frozen=True)
class TimedOut:
    """The function ran longer than its time limit, in seconds; its worker was ended."""

    seconds: float


@dataclass(frozen=True)
class WorkerDied:
    """The worker ended in mid-work.

    Args:
        exitcode: Its exit status; minus the signal's number where a signal ended it; None where nobody saw its end,
            as the fork server was killed, or the machine was lost.
        signal: The signal's name, such as ``SIGKILL``; empty where it was none.
        memory: What says that it was killed because memory ran out; empty where nothing does.
    """

    exitcode: int | None
    signal: str = ""
    memory: str = ""


@dataclass(frozen=True)
class Raised:
    """The function raised, or its payload or result could not be unpickled.

    Args:
        exception: What it raised; a RuntimeError with its text where the exception itself cannot be pickled.
        traceback: The worker's traceback as text.
    """

    exception: BaseException
    traceback: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one payload.

    Args:
        key: As given to :meth:`Executor.submit`.
        result: What the function returned; None where it failed.
        failure: Why it failed; None where it did not.
        seconds: Seconds in the function; where the worker did not live to tell, seconds since the payload was sent.
    """

    key: str
    result: Result | None
    failure: TimedOut | WorkerDied | Raised | None
    seconds: float


class Executor(Protocol[_Taken, Result]):
    """Runs one function on payloads somewhere; used in a ``with`` statement, which ends all work when it is left."""

    @property
    def at_once(self) -> int:
        """Payloads that run at the same time; known once the block is entered."""

    @property
    def window(self) -> int:
        """Payloads without an outcome that are worth having submitted at a time: more only takes memory."""

    def __enter__(self) -> Executor[_Taken, Result]: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def submit(self, key: str, payload: _Taken, places: int = 1) -> None:
        """Add a payload.

        Args:
            key: Comes back in the outcome.
            payload: Whatever cloudpickle can send.
            places: Of how many payloads it takes the place, as it starts so many processes of its own.

        Raises:
            UserError: Where it cannot.
        """

    def completed(self) -> Iterator[Outcome[Result]]:
        """Each outcome as it comes, until nothing is pending; more may be submitted meanwhile."""
