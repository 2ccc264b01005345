"""What a kind of target brings: its settings, how it is opened, and what `check` says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.ports import Target, WritePermit

    Observe = Callable[[str, str], None]

Settings = TypeVar("Settings", bound=TargetSettings)


def _no_advice(_settings: TargetSettings) -> tuple[str, ...]:
    return ()


async def _no_diagnosis(_settings: TargetSettings) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class TargetKind(Generic[Settings]):
    """One kind of target, as `daemon.targets.registry` lists it.

    Attributes:
        settings: the section ``target`` of this kind; its ``kind`` is a `Literal` of one word.
        open: makes the target, not yet connected, of its settings, a callback that is given
            (operation, result) of each request, and the permit to write. Raises `SetupFault` when
            a file that the settings name cannot be used. Imports what the kind needs, so that
            nobody pays for the libraries of the others.
        advice: notes of `check` on a target that works.
        diagnosis: notes of `check` on a target that does not, such as which server is at its
            address instead. May take some seconds; never raises.
        takes_metric_series: whether it writes `TrainingRun.metric_series`.
    """

    settings: type[Settings]
    open: Callable[[Settings, Observe, WritePermit], Target]
    advice: Callable[[Settings], tuple[str, ...]] = _no_advice
    diagnosis: Callable[[Settings], Awaitable[tuple[str, ...]]] = _no_diagnosis
    takes_metric_series: bool = False

    @property
    def name(self) -> str:
        """The word in ``target.kind``."""
        (word,) = self.settings.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]  # a Literal
        return str(word)
