"""What the daemon asks of the settings of a target, whatever its kind."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.config.types import Section
from daemon.targets.place import TargetPlace, normal_address


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
    def place(self) -> str:
        """Identifies the target among those of its kind: jobs are done per place. The same however
        the address is spelled, and without what does not say where the target is.
        """
        return normal_address(self.address)

    @property
    def target_place(self) -> TargetPlace:
        """What the checkpoint is opened for."""
        return TargetPlace(self.kind, self.place)

    @property
    def single_writer(self) -> SingleWriter | None:
        """None: several processes may write at the same time."""
        return None

    def derived_secrets(self) -> tuple[str, ...]:
        """Other forms in which the secrets of this section travel, such as a basic login."""
        return ()
