"""What a kind of target brings: its settings, how it is opened, and what `check` says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from daemon.targets.ports import NoPermit
from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.ports import CredentialsSource, Target, WritePermit

    Observe = Callable[[str, str], None]

Settings = TypeVar("Settings", bound=TargetSettings)


def _unobserved(_operation: str, _result: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target gets beside its settings."""

    observe: Observe = _unobserved
    """Called with (operation, result) of each request."""
    permit: WritePermit = field(default_factory=NoPermit)
    """To write, for a kind that takes one writer only."""
    aws_credentials: CredentialsSource | None = None
    """The daemon's own; None: the caller has none to give."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server that works says of itself when it is asked."""

    version: str = ""
    """In words; "": it does not tell it."""
    clock_ahead_seconds: float | None = None
    """Of its clock, against this machine's; None: it does not tell the time."""
    notes: tuple[str, ...] = ()
    """Of `check`, such as that the version is too old."""


def _no_advice(_settings: TargetSettings) -> tuple[str, ...]:
    return ()


async def _no_diagnosis(_settings: TargetSettings) -> tuple[str, ...]:
    return ()


async def _no_clock(_settings: TargetSettings) -> float | None:
    return None


async def _no_facts(_settings: TargetSettings, _context: TargetContext) -> ServerFacts:
    return ServerFacts()


@dataclass(frozen=True, slots=True)
class TargetKind(Generic[Settings]):
    """One kind of target, as `daemon.targets.registry` lists it.

    Attributes:
        settings: the section ``target`` of this kind; its ``kind`` is a `Literal` of one word.
        open: makes the target, not yet connected, of its settings and what the daemon gives it.
            Raises `SetupFault` when a file that the settings name cannot be used. Imports what the
            kind needs, so that nobody pays for the libraries of the others.
        advice: notes of `check` on a target that works.
        diagnosis: notes of `check` on a target that does not, such as which server is at its
            address instead. May take some seconds; never raises.
        clock_ahead: how many seconds the server's clock is ahead of this machine's; None: it does
            not tell the time. May take some seconds; never raises.
        version: what is known of the version of a server that does not tell it, in words; "":
            nothing.
        takes_metric_series: whether it writes `TrainingRun.metric_series`.
        server_facts: what a server that works says of itself. May take some seconds; never raises.
    """

    settings: type[Settings]
    open: Callable[[Settings, TargetContext], Target]
    advice: Callable[[Settings], tuple[str, ...]] = _no_advice
    diagnosis: Callable[[Settings], Awaitable[tuple[str, ...]]] = _no_diagnosis
    clock_ahead: Callable[[Settings], Awaitable[float | None]] = _no_clock
    version: str = ""
    takes_metric_series: bool = False
    server_facts: Callable[[Settings, TargetContext], Awaitable[ServerFacts]] = _no_facts

    @property
    def name(self) -> str:
        """The word in ``target.kind``."""
        (word,) = self.settings.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]  # a Literal
        return str(word)
