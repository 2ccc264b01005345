"""The claims that this process holds, among them those that are not written yet.

A claim that is not written yet is the wish to be the next holder: its fence is above the one that
was stored when the job was claimed. It is written together with the first change of the job, and
only if nobody has claimed the job since: the stored fence is still the same, and its holder has not
come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.rules import ClaimRow, NameLockRow, RequestRow, WriterLeaseRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.dynamodb.documents import Document
    from daemon.checkpoint.dynamodb.partitions import Partitions
    from daemon.checkpoint.ports import Claim

Leased = TypeVar("Leased", ClaimRow, NameLockRow, WriterLeaseRow, RequestRow)

CLOCK_SKEW_SECONDS = 30.0
"""By how much the clocks of the hosts may differ: leases of other owners count as ended so much
later than they say, those of this process by its own clock."""


@dataclass(slots=True)
class HeldClaim:
    """A claim of this process."""

    claim: Claim
    above: int | None
    """The stored fence when the job was claimed; None: the claim is written."""
    lease_until: float
    """Of a claim that is not written, in epoch seconds."""
    tried: bool = False
    """A first change was begun; whether it was carried out may not be known."""
    locks: set[str] = field(default_factory=set)
    """Names whose locks are not in the job's own document."""


class HeldClaims:
    """Of one process, by ARN. While it has a claim, `partitions` remembers the job's document.

    Args:
        owner: this process.
        partitions: what remembers.
        skew_seconds: as `CLOCK_SKEW_SECONDS`.
        clock: epoch seconds.
    """

    def __init__(
        self,
        owner: str,
        partitions: Partitions,
        *,
        skew_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.owner = owner
        self._partitions = partitions
        self._skew_seconds = skew_seconds
        self._clock = clock
        self._held: dict[str, HeldClaim] = {}

    def all(self) -> list[HeldClaim]:
        return list(self._held.values())

    def get(self, claim: Claim) -> HeldClaim | None:
        """What is known of a claim, unless it has ended here."""
        held = self._held.get(claim.job_arn)
        return held if held is not None and held.claim == claim else None

    def has(self, job_arn: str) -> bool:
        """Whether this process has a claim on an ARN."""
        return job_arn in self._held

    def put(self, claim: Claim, *, above: int | None, lease_until: float) -> None:
        """A claim that was just taken or renewed."""
        known = self.get(claim)
        if known is not None:
            known.above, known.lease_until = above, lease_until
            return
        if claim.job_arn not in self._held:
            self._partitions.pin(keys.arn_partition(claim.job_arn))
        self._held[claim.job_arn] = HeldClaim(claim, above, lease_until)

    def forget(self, claim: Claim) -> HeldClaim | None:
        """Ends a claim here. Returns what was known of it."""
        known = self.get(claim)
        if known is not None:
            del self._held[claim.job_arn]
            self._partitions.unpin(keys.arn_partition(claim.job_arn))
        return known

    def written(self, claim: Claim) -> None:
        """The claim is in the table now."""
        known = self.get(claim)
        if known is not None:
            known.above = None

    def next_fence(self, document: Document, job_arn: str) -> int:
        """Above every fence of an ARN that is stored, or that this process has given out for a
        claim that is not written.
        """
        held = self._held.get(job_arn)
        return max(document.fence(job_arn), 0 if held is None else held.claim.fence) + 1

    def seen(self, document: Document, job_arn: str) -> ClaimRow | None:
        """The claim on an ARN as this process may count with it: its own, also if that is not
        written yet, or that of another, whose clock may be behind.
        """
        held = self._held.get(job_arn)
        if held is not None:
            own = self._unwritten(document, held)
            if own is not None:
                return own
        stored = document.claim_on(job_arn)
        return None if stored is None else self._late(stored, stored.claim.owner)

    def taken(self, document: Document, claim: Claim) -> Document:
        """The document with a claim of this process, if that is not written yet and not lost."""
        held = self.get(claim)
        own = None if held is None else self._unwritten(document, held)
        return document if own is None else document.with_claim(own)

    def _unwritten(self, document: Document, held: HeldClaim) -> ClaimRow | None:
        """The row of a claim that is not written, if nobody was quicker."""
        claim = held.claim
        if held.above is None or document.fence(claim.job_arn) != held.above:
            return None
        stored = document.claim_on(claim.job_arn)
        if stored is not None:
            # the former holder may renew a claim that nobody has taken in writing
            taken = rules.claim(
                self._late(stored, stored.claim.owner),
                claim,
                now=self._clock(),
                lease_until=held.lease_until,
                holder_gone=False,
            )
            if not isinstance(taken, ClaimRow) or taken.claim != claim:
                return None
        return ClaimRow(claim, held.lease_until)

    def seen_lock(self, held: NameLockRow | None) -> NameLockRow | None:
        """A name lock as this process may count with it."""
        return None if held is None else self._late(held, held.claim.owner)

    def seen_writer(self, held: WriterLeaseRow | None) -> WriterLeaseRow | None:
        """A writer lease as this process may count with it. One that was released is free."""
        if held is None or held.lease_until <= 0:
            return held
        return self._late(held, held.lease.owner)

    def seen_request(self, held: RequestRow) -> RequestRow:
        """A request as this process may count with it."""
        return self._late(held, held.request.taken_by) if held.lease_until > 0 else held

    def _late(self, held: Leased, owner: str) -> Leased:
        if owner == self.owner:
            return held
        return replace(held, lease_until=held.lease_until + self._skew_seconds)
