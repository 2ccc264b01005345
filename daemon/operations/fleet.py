"""The replicas: what each daemon of a target says of itself in the checkpoint, for people.

Every replica keeps one note, writes it each minute and when its state changes, and deletes it when
it stops in order. The note of one that was killed stays, and says so when it is old. Nothing
decides anything by these notes.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.checkpoint.ports import Checkpoint
    from daemon.observability.watchdog import Pulse

PREFIX = "replica:"
"""Of the names of the notes; the owner follows."""
NOTE_SECONDS = 60.0
"""Between two notes whose state is the same."""
CHANGE_SECONDS = 5.0
"""Between two notes at least, and two looks whether the state has changed."""
VANISHED_SECONDS = 180.0
"""A note that is older is of a replica that has vanished without stopping, or is paused."""
FORGOTTEN_SECONDS = 3600.0
"""A note that is older is deleted by whoever sees it."""
CALL_DEADLINE_SECONDS = 120.0
"""A longer call of the checkpoint counts as hung. Exceeds the checkpoint's own deadlines."""

VANISHED = "vanished"
"""The state of a replica that has not written its note for too long."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One daemon, as it was when it wrote its note."""

    owner: str
    """As in `daemon.checkpoint.ports.Claim`."""
    version: str
    started_at: float
    """Epoch seconds."""
    state: str
    """As in `daemon.observability.status.Status`, or `VANISHED`."""
    why: str = ""
    """Why it does not receive: each edge that fails, with its reason; "" if it receives."""
    in_flight: int = 0
    """Messages received and not yet acknowledged."""
    synced_last_hour: int = 0
    seen_at: float = 0.0
    """When it wrote the note, in epoch seconds by its own clock."""


class Fleet:
    """The replicas of a target, this one among them.

    Args:
        checkpoint: shared by the replicas.
        here: called for what this replica is now.
        on_fault: called with each fault of the checkpoint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        here: Callable[[], Replica],
        on_fault: Callable[[EdgeFault], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._here = here
        self._on_fault = on_fault
        self._others: Sequence[Replica] = ()
        self._noted_at = float("-inf")
        self._noted: tuple[str, str] | None = None

    @property
    def replicas(self) -> Sequence[Replica]:
        """This replica first, then the others as they were seen last, by name."""
        now = wall()
        return [self._here(), *(_as_seen(each, now) for each in self._others)]

    async def run(self, pulse: Pulse) -> None:
        """Keeps the note. Ends only by cancellation."""
        while True:
            pulse.work(CALL_DEADLINE_SECONDS)
            try:
                await self.turn()
            except EdgeFault as fault:
                self._on_fault(fault)
            pulse.rest()
            await asyncio.sleep(CHANGE_SECONDS)

    async def turn(self) -> None:
        """Writes the note if it is due, and reads those of the others.

        Raises:
            EdgeFault: the checkpoint failed.
        """
        here = self._here()
        said = here.state, here.why
        if said == self._noted and monotonic() - self._noted_at < NOTE_SECONDS:
            return
        await self._checkpoint.put_note(PREFIX + here.owner, json.dumps(asdict(here)))
        self._noted, self._noted_at = said, monotonic()
        await self._look(here.owner)

    async def _look(self, here: str) -> None:
        found, now = [], wall()
        for name, value in (await self._checkpoint.notes(PREFIX)).items():
            owner = name.removeprefix(PREFIX)
            replica = _replica(owner, value)
            if owner == here or replica is None:
                continue
            if now - replica.seen_at > FORGOTTEN_SECONDS:
                await self._checkpoint.put_note(name, None)
                continue
            found.append(replica)
        self._others = sorted(found, key=lambda each: each.owner)

    async def leave(self) -> None:
        """Deletes the note: this replica stops in order.

        Raises:
            EdgeFault: the checkpoint failed; the replica will seem to have vanished.
        """
        await self._checkpoint.put_note(PREFIX + self._here().owner, None)


def _replica(owner: str, note: str) -> Replica | None:
    """The replica of a note; None for one that this version cannot read."""
    try:
        members = json.loads(note)
        known = {each.name: members[each.name] for each in fields(Replica) if each.name in members}
        replica = Replica(**{**known, "owner": owner})
    except (ValueError, TypeError, KeyError):
        return None
    return replica if _is_whole(asdict(replica)) else None


def _is_whole(members: Mapping[str, object]) -> bool:
    numbers = ("started_at", "seen_at", "in_flight", "synced_last_hour")
    texts = ("owner", "version", "state", "why")
    return all(
        isinstance(value := members[name], int | float) and math.isfinite(value) for name in numbers
    ) and all(isinstance(members[name], str) for name in texts)


def _as_seen(replica: Replica, now: float) -> Replica:
    if now - replica.seen_at <= VANISHED_SECONDS:
        return replica
    members = asdict(replica) | {"state": VANISHED, "why": ""}
    return Replica(**members)
