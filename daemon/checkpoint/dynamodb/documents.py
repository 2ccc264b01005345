"""The document of one job name in one target: everything that a decision about jobs of that name
reads and changes. Pure.

It is stored as one item, so that each decision is one conditional write: claims by ARN, name locks,
the rows of the jobs that had the name, and their stories. The row that changed last is an
attribute of its own, which the indexes project; where a document has further rows, each also has
an item of its own (`mirrors`), only for the indexes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.table import CHANGED_AT, EXPIRES_AT, PARTITION_KEY, ROW, SORT_KEY
from daemon.checkpoint.ports import Claim, JobRecord, JobState
from daemon.checkpoint.rules import ClaimRow, NameLockRow
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.checkpoint.dynamodb.table import Item

STORIES_LIMIT = 250_000
"""Bytes of a document's stories; an item has 400 kB at most."""

_NOBODY = ""
"""Owner of a claim that has ended. The entry keeps its fence."""
_SAME = 0
"""In a stored story: the same word as in the entry before."""


@dataclass(frozen=True, slots=True)
class Story:
    """The story of the jobs of one ARN."""

    entries: Sequence[StoryEntry]
    told_at: float
    """When the last entry was added, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Document:
    """See the module. Every change returns another one."""

    target: TargetPlace
    claims: Mapping[str, ClaimRow] = field(default_factory=dict)
    """By ARN. Those that have ended have no owner."""
    locks: Mapping[str, NameLockRow] = field(default_factory=dict)
    """By name."""
    rows: Mapping[tuple[str, str], JobRecord] = field(default_factory=dict)
    """By ARN and creation time."""
    stories: Mapping[str, Story] = field(default_factory=dict)
    """By ARN."""

    @property
    def empty(self) -> bool:
        """Nothing is left that would have to be remembered."""
        return not (self.claims or self.locks or self.rows or self.stories)

    @property
    def latest(self) -> JobRecord | None:
        """The row that changed last."""
        return max(
            self.rows.values(),
            key=lambda row: (row.updated_at, row.creation_time, row.job_arn),
            default=None,
        )

    def claim_on(self, job_arn: str) -> ClaimRow | None:
        """The claim on an ARN, unless it has ended. Its lease may be over."""
        held = self.claims.get(job_arn)
        return None if held is None or held.claim.owner == _NOBODY else held

    def fence(self, job_arn: str) -> int:
        """The newest fence of an ARN."""
        held = self.claims.get(job_arn)
        return 0 if held is None else held.claim.fence

    def with_claim(self, row: ClaimRow) -> Document:
        """A new claim instead of any other on its ARN, whose locks end, or one renewed with its
        locks.
        """
        claim = row.claim
        locks = {
            name: replace(lock, lease_until=row.lease_until) if lock.claim == claim else lock
            for name, lock in self.locks.items()
            if lock.claim == claim or lock.claim.job_arn != claim.job_arn
        }
        return replace(self, claims={**self.claims, claim.job_arn: row}, locks=locks)

    def without_claim(self, claim: Claim) -> Document:
        """The claim and its locks ended, if it is not lost."""
        held = self.claim_on(claim.job_arn)
        if held is None or held.claim != claim:
            return self
        ended = ClaimRow(replace(claim, owner=_NOBODY), 0.0)
        locks = {name: lock for name, lock in self.locks.items() if lock.claim != claim}
        return replace(self, claims={**self.claims, claim.job_arn: ended}, locks=locks)

    def with_lock(self, lock: NameLockRow) -> Document:
        return replace(self, locks={**self.locks, lock.name: lock})

    def without_lock(self, claim: Claim, name: str) -> Document:
        """The lock ended, if it belongs to the claim."""
        held = self.locks.get(name)
        if held is None or held.claim != claim:
            return self
        return replace(self, locks={key: lock for key, lock in self.locks.items() if key != name})

    def with_row(self, row: JobRecord) -> Document:
        return replace(self, rows={**self.rows, (row.job_arn, row.creation_time): row})

    def without_row(self, row: JobRecord) -> Document:
        left = dict(self.rows)
        left.pop((row.job_arn, row.creation_time), None)
        return replace(self, rows=left)

    def told(self, job_arn: str, entries: Sequence[StoryEntry], *, now: float) -> Document:
        """With more entries in the story of an ARN."""
        if not entries or not job_arn:
            return self
        known = self.stories.get(job_arn)
        story = Story(rules.story(known.entries if known else (), entries), now)
        return replace(self, stories={**self.stories, job_arn: story})

    def without_old(self, older_than: float) -> Document:
        """Without rows and stories last changed before a moment, except rows that are being
        written.
        """
        rows = {
            key: row
            for key, row in self.rows.items()
            if row.updated_at >= older_than or row.state in rules.NEVER_PRUNED
        }
        stories = {arn: story for arn, story in self.stories.items() if story.told_at >= older_than}
        return replace(self, rows=rows, stories=stories)

    def without_ended(self, *, before: float) -> Document:
        """Without claims and locks whose leases ended before a moment, and those given back. Only
        for a document that is to go: the fences begin anew.
        """
        claims = {arn: held for arn, held in self.claims.items() if held.lease_until >= before}
        locks = {name: lock for name, lock in self.locks.items() if lock.lease_until >= before}
        return replace(self, claims=claims, locks=locks)


def document_item(
    document: Document, partition: str, *, now: float, keep_seconds: float
) -> dict[str, str | float | int]:
    """The item of a document, without its version.

    Args:
        partition: its partition key.
        now: epoch seconds.
        keep_seconds: how long it is kept after this change; for ever while a row is being written.
    """
    latest = document.latest
    stories = {arn: _story_json(story) for arn, story in _bounded(document.stories).items()}
    parts: dict[str, Any] = {
        "target": [document.target.kind, document.target.place],
        "claims": {
            arn: [held.claim.owner, held.claim.fence, held.lease_until]
            for arn, held in document.claims.items()
        },
        "locks": {
            name: [lock.claim.job_arn, lock.claim.owner, lock.claim.fence, lock.lease_until]
            for name, lock in document.locks.items()
        },
        "rows": [_row_json(row) for row in document.rows.values() if row is not latest],
        "stories": stories,
    }
    item: dict[str, str | float | int] = {
        PARTITION_KEY: partition,
        SORT_KEY: keys.document_key(document.target),
        keys.DOCUMENT: _text({name: part for name, part in parts.items() if part}),
    }
    if latest is None:
        item |= {"outcome": keys.outcome(keys.WITHOUT_ROW, partition), CHANGED_AT: now}
    else:
        item |= _indexed(latest, partition)
    if not any(row.state in rules.NEVER_PRUNED for row in document.rows.values()):
        item[EXPIRES_AT] = math.ceil(now + keep_seconds)
    return item


def mirrors(
    document: Document, partition: str, *, keep_seconds: float
) -> dict[str, dict[str, str | float | int]]:
    """The items of all rows but the latest, by sort key, without their versions."""
    latest, home = document.latest, keys.document_key(document.target)
    found = {}
    for row in document.rows.values():
        if row is latest:
            continue
        sort = keys.row_key(home, row.job_arn, row.creation_time)
        item = {PARTITION_KEY: partition, SORT_KEY: sort, **_indexed(row, partition)}
        if row.state not in rules.NEVER_PRUNED:
            item[EXPIRES_AT] = math.ceil(row.updated_at + keep_seconds)
        found[sort] = item
    return found


def is_document(item: Item) -> bool:
    """Whether an item is a document; otherwise it is a further row of one."""
    return keys.DOCUMENT in item


def document_of(item: Item) -> Document:
    """The document that an item holds."""
    parts = json.loads(str(item[keys.DOCUMENT]))
    rows = [_row(each) for each in parts.get("rows", ())]
    if ROW in item:
        rows.append(row_of(item))
    return Document(
        TargetPlace(*parts["target"]),
        {
            arn: ClaimRow(Claim(arn, owner, fence), lease_until)
            for arn, (owner, fence, lease_until) in parts.get("claims", {}).items()
        },
        {
            name: NameLockRow(name, Claim(arn, owner, fence), lease_until)
            for name, (arn, owner, fence, lease_until) in parts.get("locks", {}).items()
        },
        {(row.job_arn, row.creation_time): row for row in rows},
        {arn: _story(story) for arn, story in parts.get("stories", {}).items()},
    )


def row_of(item: Item) -> JobRecord:
    """The row of an item: of a document the one that changed last. An item of an index has it."""
    return _row(json.loads(str(item[ROW])))


def _indexed(row: JobRecord, partition: str) -> dict[str, str | float | int]:
    """A row with what the indexes find it by."""
    found: dict[str, str | float | int] = {
        ROW: _text(_row_json(row)),
        CHANGED_AT: row.updated_at,
        "outcome": keys.outcome(row.state, partition),
    }
    if row.project:
        found["group"] = keys.project_group(row.project)
    return found


def _row_json(row: JobRecord) -> dict[str, Any]:
    """The members of a row that say something."""
    members = {member.name: getattr(row, member.name) for member in fields(row)}
    members |= {"target_ids": dict(row.target_ids), "steps": dict(row.steps)}
    return {name: value for name, value in members.items() if value}


_EMPTY_ROW = {
    "creation_time": "",
    "job_name": "",
    "reason": "",
    "detail": "",
    "attempts": 0,
    "unanswered_writes": 0,
    "target": "",
    "place": "",
    "target_ids": {},
    "message_id": "",
    "first_seen_at": 0.0,
    "updated_at": 0.0,
}


def _row(members: dict[str, Any]) -> JobRecord:
    return JobRecord(**{**_EMPTY_ROW, **members, "state": JobState(members["state"])})


def _story_json(story: Story) -> list[Any]:
    """Entries as lists. The message and the owner are mostly those of the entry before."""
    entries: list[list[Any]] = []
    message_id = owner = ""
    for entry in story.entries:
        entries.append(
            [
                entry.at,
                entry.what,
                _SAME if entry.message_id == message_id else entry.message_id,
                entry.detail,
                _SAME if entry.owner == owner else entry.owner,
            ]
        )
        message_id, owner = entry.message_id, entry.owner
    return [story.told_at, entries]


def _story(stored: list[Any]) -> Story:
    told_at, entries = stored
    message_id = owner = ""
    found = []
    for at, what, message, detail, process in entries:
        message_id = message_id if message == _SAME else message
        owner = owner if process == _SAME else process
        found.append(StoryEntry(at, StoryEvent(what), message_id, detail, owner))
    return Story(tuple(found), told_at)


def _bounded(stories: Mapping[str, Story]) -> Mapping[str, Story]:
    """Stories that fit into an item; of those that are too long the newest half stays."""
    while sum(len(_text(_story_json(story)).encode()) for story in stories.values()) > (
        STORIES_LIMIT
    ):
        arn = max(stories, key=lambda each: len(_text(_story_json(stories[each])).encode()))
        longest = stories[arn]
        half = longest.entries[len(longest.entries) // 2 + 1 :]
        stories = {**stories, arn: replace(longest, entries=half)}
    return stories


def _text(value: object) -> str:
    """JSON that UTF-8 can hold; lone surrogates are escaped, as JSON does it."""
    return rules.storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
