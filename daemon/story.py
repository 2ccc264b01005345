"""The story of a job: what this program did with it and when, for `explain` and the status page.

Pure, except that an entry takes its time from the clock. Entries are kept in the checkpoint
(`daemon.checkpoint.ports.Checkpoint.story`), bounded and pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.clock import wall
from daemon.redaction.redactor import Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence

DETAIL_LIMIT = 300
"""Characters of an entry's detail."""
ENTRIES_LIMIT = 60
"""Entries of one job in one target."""
FIRST_ENTRIES = 10
"""How many of the oldest stay when there are more; the others are the newest."""

_SEARCHED_LIMIT = 4 * DETAIL_LIMIT
"""Characters that are searched for secrets before the detail is shortened. A secret that begins in
what is kept is recognised by what follows."""


class StoryEvent(StrEnum):
    """What happened to a job. Kept in the checkpoint: a word never changes its meaning."""

    RECEIVED = "received"  # a message about it was received
    JOINED = "joined"  # that message shares the outcome of an earlier one, then in flight
    CLAIMED = "claimed"  # this process took the claim
    DESCRIBED = "described"  # DescribeTrainingJob answered
    TAGS_READ = "tags_read"  # ListTags answered, or the event had all tags
    WRITE_BEGUN = "write_begun"  # the intent of a create was recorded; the create follows
    STEP_WRITTEN = "step_written"  # some steps of a write of several were recorded
    HELD = "held"  # the message waits for an edge that fails as a whole
    GIVEN_BACK = "given_back"  # the claim ended without an outcome
    OUTCOME = "outcome"  # an outcome was recorded
    ENQUEUED = "enqueued"  # reconcile or backfill sent a message about it
    REDRIVEN = "redriven"  # a dead letter about it was sent back to the queue
    HANDED_OVER = "handed_over"  # `sync` handed it to the running daemon
    REPAIRED = "repaired"  # `sync --force` changed its run


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """One event of a job's story. `story_entry` makes one that may be kept."""

    at: float
    """Epoch seconds."""
    what: StoryEvent
    message_id: str = ""
    detail: str = ""
    """For people; without secrets."""
    owner: str = ""
    """The process that claimed the job, as in `daemon.checkpoint.ports.Claim`."""


def story_entry(
    what: StoryEvent,
    detail: str = "",
    *,
    message_id: str = "",
    owner: str = "",
    at: float | None = None,
    redactor: Redactor | None = None,
) -> StoryEntry:
    """An entry whose detail is without secrets and short enough to be kept.

    Args:
        what: the event.
        detail: for people; may contain anything.
        message_id: of the message it is about.
        owner: as in `StoryEntry`.
        at: epoch seconds; None: now.
        redactor: with the patterns of ``jobs.redact``; None: with the default ones.
    """
    text = detail[:_SEARCHED_LIMIT]
    if text:
        text = (redactor or _DEFAULT).text(text, cut=len(detail) > _SEARCHED_LIMIT).text
    return StoryEntry(wall() if at is None else at, what, message_id, shortened(text), owner)


_DEFAULT = Redactor()


def shortened(detail: str) -> str:
    """At most `DETAIL_LIMIT` characters."""
    return detail if len(detail) <= DETAIL_LIMIT else f"{detail[: DETAIL_LIMIT - 1]}…"


def continued(known: Sequence[StoryEntry], added: Sequence[StoryEntry]) -> Sequence[StoryEntry]:
    """A story with more entries, oldest first: of too many the first few and the newest.

    An entry that is there already is not added again, so a write whose answer was lost may be
    repeated.
    """
    there = set(known)
    new = [entry for entry in dict.fromkeys(added) if entry not in there]
    entries = sorted([*known, *new], key=lambda entry: entry.at)
    if len(entries) <= ENTRIES_LIMIT:
        return entries
    return [*entries[:FIRST_ENTRIES], *entries[FIRST_ENTRIES - ENTRIES_LIMIT :]]


class StoryDraft:
    """The entries of a job in flight that are not in the checkpoint yet: they go there with the
    next write about the job.
    """

    def __init__(self) -> None:
        self._entries: list[StoryEntry] = []
        self._told: set[str] = set()

    @property
    def entries(self) -> tuple[StoryEntry, ...]:
        """What the next write takes along."""
        return tuple(self._entries)

    def add(self, entry: StoryEntry, key: str = "") -> None:
        """Adds an entry, unless this draft has told the same before: another attempt at a held
        message repeats nothing.

        Args:
            entry: the entry.
            key: what makes it the same; "": its event and detail.
        """
        if self.tells_anew(key or f"{entry.what} {entry.detail}"):
            self._entries = list(continued(self._entries, [entry]))

    def tells_anew(self, key: str) -> bool:
        """Whether this is asked for the first time."""
        anew = key not in self._told
        self._told.add(key)
        return anew

    def kept(self, entries: Sequence[StoryEntry]) -> None:
        """These are in the checkpoint."""
        self._entries = [entry for entry in self._entries if entry not in entries]

    def take_over(self, other: StoryDraft, joined: StoryEntry) -> None:
        """The entries of a message that waits for this one's outcome, with one that says so."""
        self._entries = list(continued(self._entries, [*other.entries, joined]))
        other.kept(other.entries)
