"""What the flow tells of a job, for its story in the checkpoint.

Entries are collected in the job's draft and go into the checkpoint with the writes that the flow
makes anyway: a story costs no call of its own, except at a hold. Only what came from outside is
searched for secrets, because that takes longer than all the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.aws.ports import ORIGIN, Origin
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault
from daemon.outcome import Synced
from daemon.reasons import Edge
from daemon.redaction.keys import SECRET_KEYS
from daemon.redaction.redactor import Redactor
from daemon.story import StoryEntry, StoryEvent, story_entry
from daemon.training_job.described_job import described_status
from daemon.training_job.final_status import TERMINAL_STATUSES
from daemon.training_job.tags import SyncTagAbsent, TagsIncomplete

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from daemon.checkpoint.ports import Checkpoint, Claim
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery
    from daemon.reasons import Reason
    from daemon.training_job.tags import JobTags

_KNOWN_ORIGINS = frozenset({None, *Origin})


class Storyteller:
    """Adds entries to the drafts of jobs.

    Args:
        checkpoint: told of holds at once.
        redact: the patterns of ``jobs.redact``.
    """

    def __init__(self, checkpoint: Checkpoint, redact: Sequence[str]) -> None:
        self._checkpoint = checkpoint
        self._redactor = Redactor(tuple(redact) or SECRET_KEYS)

    def received(self, delivery: Delivery) -> None:
        message = delivery.message
        said = [f"receive {delivery.receive_count}"]
        if message.sent_at is not None:
            said.append(f"sent {datetime.fromtimestamp(message.sent_at, UTC):%Y-%m-%d %H:%M:%SZ}")
        origin = message.attributes.get(ORIGIN)
        if origin is not None:
            said.append(f"origin {origin}")
        at, words = wall() - (monotonic() - delivery.received_at), ", ".join(said)
        entry = (
            StoryEntry(at, StoryEvent.RECEIVED, message.message_id, words)
            if origin in _KNOWN_ORIGINS
            else self._entry(StoryEvent.RECEIVED, words, message_id=message.message_id, at=at)
        )
        delivery.job.story.add(entry, "received")

    def claimed(self, delivery: Delivery, claim: Claim) -> None:
        entry = StoryEntry(wall(), StoryEvent.CLAIMED, owner=claim.owner)
        delivery.job.story.add(entry, f"claimed {claim.fence}")

    def described(self, delivery: Delivery, description: Mapping[str, Any]) -> None:
        status = described_status(description) or "without a status"
        delivery.job.story.add(
            StoryEntry(wall(), StoryEvent.DESCRIBED, detail=status)
            if status in TERMINAL_STATUSES
            else self._entry(StoryEvent.DESCRIBED, status)
        )

    def tags_read(
        self, delivery: Delivery, tags: JobTags | SyncTagAbsent | TagsIncomplete, *, listed: bool
    ) -> None:
        """Args:
        listed: they are those of ListTags, not the event's own.
        """
        whence = "by ListTags" if listed else "in the event"
        if isinstance(tags, SyncTagAbsent):
            said = "the sync tag is absent"
        elif isinstance(tags, TagsIncomplete):
            said = f"missing {', '.join(tags.missing)}"
        else:
            said = "complete"
        entry = StoryEntry(wall(), StoryEvent.TAGS_READ, detail=f"{whence}: {said}")
        delivery.job.story.add(entry)

    def repaired(self, delivery: Delivery, changed: Sequence[str]) -> None:
        delivery.job.story.add(self._entry(StoryEvent.REPAIRED, ", ".join(changed)))

    def with_outcome(self, delivery: Delivery, outcome: Outcome) -> tuple[StoryEntry, ...]:
        """The draft and how it ends, to be recorded."""
        said = f"{outcome.kind} ({outcome.reason})"
        if isinstance(outcome, Synced) and "run_id" in outcome.target_ids:
            said = f"{said}, run {outcome.target_ids['run_id']}"
        message_id = delivery.message.message_id
        entry = (
            self._entry(StoryEvent.OUTCOME, f"{said}: {outcome.detail}", message_id=message_id)
            if outcome.detail
            else StoryEntry(wall(), StoryEvent.OUTCOME, message_id, said)
        )
        return (*delivery.job.story.entries, entry)

    def with_return(self, delivery: Delivery, reason: Reason) -> tuple[StoryEntry, ...]:
        """The draft of a message that is given back without an outcome, to be recorded."""
        entry = StoryEntry(wall(), StoryEvent.GIVEN_BACK, delivery.message.message_id, str(reason))
        return (*delivery.job.story.entries, entry)

    async def held(self, delivery: Delivery, fault: EdgeFault) -> None:
        """Tells the checkpoint of a hold, once for each edge and reason. Raises nothing: what it
        cannot tell goes with the next write.
        """
        job = delivery.job
        if not job.key:
            return
        entry = self._entry(
            StoryEvent.HELD,
            f"{fault.edge} {fault.reason}: {fault.detail}",
            message_id=delivery.message.message_id,
        )
        before = len(job.story.entries)
        job.story.add(entry, f"held {fault.edge} {fault.reason}")
        if len(job.story.entries) == before or fault.edge is Edge.CHECKPOINT:
            return
        entries = job.story.entries
        try:
            await self._checkpoint.note_story(job.key, entries)
        except EdgeFault:  # the calls that matter find and say it
            return
        job.story.kept(entries)

    def _entry(
        self, what: StoryEvent, detail: str, *, message_id: str = "", at: float | None = None
    ) -> StoryEntry:
        return story_entry(what, detail, message_id=message_id, at=at, redactor=self._redactor)
