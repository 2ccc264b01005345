"""What the daemon asks of the settings of a target, whatever its kind."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.config.types import Section


@dataclass(frozen=True, slots=True)
class SingleWriter:
    """What the writer lease of a target that takes one writer only must know."""

    server_id: str
    """Names the server in the checkpoint."""
    call_seconds: float
    """The longest deadline of a call."""
    settle_seconds: float
    """How long after its deadline a call may still be carried out."""


class TargetSettings(Section):
    """The section ``target``; `daemon.targets.registry` lists a subclass for each kind."""

    if TYPE_CHECKING:  # a field only in each subclass, in its own order
        kind: str
        settle_seconds: float
        """How long a write without an answer may still be carried out."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the target is, for logs and people."""

    @property
    def single_writer(self) -> SingleWriter | None:
        """None: several processes may write at the same time."""
        return None

    def derived_secrets(self) -> tuple[str, ...]:
        """Other forms in which the secrets of this section travel, such as a basic login."""
        return ()
