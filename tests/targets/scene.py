"""What the suite of targets needs of a kind of target: a server, targets of it, and its faults.

A scene is an asynchronous context manager. Its server runs from the beginning of the block to its
end, and every target that it opened is closed with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from daemon.targets.ports import Target

NO_MARK = JobMark("", "")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as the server's own data have it, read without the target's code."""

    key: str
    """Identifies it in the scene's methods."""
    mark: JobMark
    """`NO_MARK`: it carries none."""
    name: str
    hyperparameters: Mapping[str, str]
    """Numbers as Python prints them, texts as they are."""
    metrics: Mapping[str, float]
    """By the names that the job has for them, if no character had to be replaced."""
    inputs: Mapping[str, str]
    """The URI of each channel by its name."""
    complete: bool
    """False: the server still shows it as unfinished."""
    texts: frozenset[str]
    """Every text in it and in what belongs to it, such as its project and its model."""


class HeldWrite(Protocol):
    """A create that the server has received and not carried out yet."""

    @property
    def reached(self) -> asyncio.Event:
        """Set as soon as the server has it."""

    def release(self) -> None:
        """It is carried out now, whether or not its caller still waits."""


class Settling:
    """Stands in for the settle time of a target: `during` runs in it, and no time passes.

    Args:
        drain: returns when the server has carried out all that it has received.
    """

    def __init__(self, drain: Callable[[], Awaitable[object]]) -> None:
        self.during: Callable[[], Awaitable[object]] | None = None
        self.drains = True
        """False: what a paused process has begun to send is on its way for longer than that."""
        self.count = 0
        self._drain = drain

    async def __call__(self, _seconds: float) -> None:
        self.count += 1
        if self.during is not None:
            await self.during()
        if self.drains:
            await self._drain()


class TargetScene:
    """Base of the scenes. A scene overrides all that its server can have, and names the rest.

    Attributes:
        kind: of the target.
        cannot: names of tests of the suite that make no sense for this target, with the reason.
        login: the secret that its targets send, if they have one; it must not show anywhere.
        settling: the settle time of its targets.
    """

    kind: str
    cannot: ClassVar[Mapping[str, str]] = {}
    login: str | None = None

    def __init__(self) -> None:
        self.settling = Settling(self.drain)
        self.observed: list[tuple[str, str]] = []
        """Operation and result of each request of any target."""

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def open(self, *, timeout_seconds: float | None = None) -> Target:
        """A new target, as a daemon has it that has just been started. Earlier ones stay open; of
        a target with a single writer only the newest may write.

        Args:
            timeout_seconds: deadline of its calls; None: one that is never reached.
        """
        raise NotImplementedError

    async def runs(self) -> Sequence[StoredRun]:
        """Everything stored, the oldest first; deleted runs are left out."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Returns when the server has carried out all that it has received."""

    async def requests(self) -> int:
        """How many requests the server has received."""
        raise NotImplementedError

    def written(self, document: Mapping[str, Any]) -> Iterator[str]:
        """The texts in the document of a preview that are in the run once it is written: all but
        the notes, which are for people.
        """
        return values_in({key: value for key, value in document.items() if key != "notes"})

    # What people and other programs do

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        """Stores a later copy of a run, as a create does that overlapped with another.

        Args:
            key: of the run.
            marked: False: without the mark, as a run with this name that somebody else made.

        Returns:
            The key of the copy.
        """
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Deletes a run."""
        raise NotImplementedError

    async def add_by_hand(self, key: str) -> str:
        """A person adds something to a run. Returns a text that is in it from now on."""
        raise NotImplementedError

    async def damage(self, key: str) -> None:
        """Takes something from a run that a repair puts back, such as a metric."""
        raise NotImplementedError

    # Faults. Each stays until `clear`, but for those of the next create of a run.

    async def clear(self) -> None:
        """Ends all faults."""
        raise NotImplementedError

    async def go_down(self) -> None:
        """The server cannot be reached, or says that it cannot serve."""
        raise NotImplementedError

    def fall_silent(self) -> None:
        """Requests are received and not answered. What was received is carried out at `clear`."""
        raise NotImplementedError

    def throttle(self) -> None:
        """Every request is answered with "too many requests"."""
        raise NotImplementedError

    def show_web_page(self) -> None:
        """A web page answers every request."""
        raise NotImplementedError

    def refuse_login(self) -> None:
        """The server does not know the login (any more)."""
        raise NotImplementedError

    def lose_write(self) -> None:
        """The next create of a run is not carried out, and nobody says so."""
        raise NotImplementedError

    def lose_answer(self) -> None:
        """The next create of a run is carried out, and its answer is lost."""
        raise NotImplementedError

    def hold_write(self) -> HeldWrite:
        """The next create of a run waits in the server."""
        raise NotImplementedError

    def refuse_write(self, words: str) -> None:
        """The next create of a run is refused for good: the server does not take its content.

        Args:
            words: in the text of the refusal.
        """
        raise NotImplementedError


def values_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, without the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from values_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from values_in(item)


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, the keys of its objects included."""
    if isinstance(value, dict):
        yield from value
        yield from texts_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)
    else:
        yield from values_in(value)


async def some_turns() -> None:
    """Lets everything run that is ready: bytes on their way over the loopback interface arrive."""
    for _ in range(20):
        await asyncio.sleep(0)
