"""What the operations keep: notes, reconcile's watch list, and requests to the running daemon. One
partition of each kind for each target.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, astuple, replace
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.concurrent_calls import each_of
from daemon.checkpoint.dynamodb.items import ItemDecision
from daemon.checkpoint.dynamodb.table import ROW, SORT_KEY
from daemon.checkpoint.ports import LeaseLost, SyncRequest, WatchedJob
from daemon.checkpoint.rules import RequestRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.checkpoint.dynamodb.claims import HeldClaims
    from daemon.checkpoint.dynamodb.items import Items
    from daemon.checkpoint.dynamodb.table import Item
    from daemon.checkpoint.ports import Claim
    from daemon.targets.place import TargetPlace


class OperationsState:
    """The part of the checkpoint that the operations keep.

    Args:
        items: of the table.
        target: whose.
        claims: of this process, which know who counts as gone.
        clock: epoch seconds.
    """

    def __init__(
        self, items: Items, target: TargetPlace, claims: HeldClaims, clock: Callable[[], float]
    ) -> None:
        self._items = items
        self._claims = claims
        self._clock = clock
        self._notes = keys.target_partition("note", target)
        self._watched = keys.target_partition("watch", target)
        self._requests = keys.target_partition("request", target)
        self._taken: set[str] = set()

    async def note(self, name: str) -> str | None:
        item = await self._items.table.get(self._notes, keys.named_key(name))
        return None if item is None else _note(item)[1]

    async def notes(self, prefix: str) -> Mapping[str, str]:
        found = map(_note, await self._items.table.partition(self._notes))
        return dict(sorted((name, value) for name, value in found if name.startswith(prefix)))

    async def put_note(self, name: str, value: str | None, claim: Claim | None) -> None:
        """Keeps a note; None deletes it.

        Args:
            claim: under which it is written. It has been checked; if it was lost since, and its
                next holder has written the note, that stays.

        Raises:
            LeaseLost: it has.
        """

        def rule(item: Item | None) -> ItemDecision[None]:
            if item is not None and claim is not None:
                arn, fence = json.loads(str(item[ROW]))[3:]
                if arn == claim.job_arn and fence > claim.fence:
                    raise LeaseLost(claim.job_arn)
            if value is None:
                return ItemDecision(None, delete=True)
            under = ("", 0) if claim is None else (claim.job_arn, claim.fence)
            row = {ROW: json.dumps([name, rules.storable(value), self._clock(), *under])}
            return ItemDecision(None, self._items.expiring(row, since=self._clock()))

        await self._items.decide(self._notes, keys.named_key(name), rule)

    async def watch(self, jobs: Sequence[WatchedJob]) -> None:
        await each_of(self._watch(replace(job, job_arn=job.job_arn.lower())) for job in jobs)

    async def _watch(self, job: WatchedJob) -> None:
        def rule(item: Item | None) -> ItemDecision[None]:
            watched = rules.watch(None if item is None else _watched(item), job)
            row = {ROW: json.dumps(astuple(watched))}
            return ItemDecision(None, self._items.expiring(row, since=watched.look_again_at))

        key = keys.named_key(f"{job.job_arn}#{job.creation_time}")
        await self._items.decide(self._watched, key, rule)

    async def unwatch(self, job_arns: Sequence[str]) -> None:
        if not job_arns:
            return
        arns = {arn.lower() for arn in job_arns}
        found = await self._items.table.partition(self._watched)
        await each_of(
            self._delete(self._watched, item) for item in found if _watched(item).job_arn in arns
        )

    async def watched(self, limit: int, not_after: float) -> Sequence[WatchedJob]:
        """The most overdue first."""
        found = map(_watched, await self._items.table.partition(self._watched))
        due = [job for job in found if job.look_again_at <= not_after]
        due.sort(key=lambda job: (job.look_again_at, job.job_arn, job.creation_time))
        return due[:limit]

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]:
        found = map(_watched, await self._items.table.partition(self._watched))
        return [job for job in found if job.job_arn == job_arn]

    async def ask(self, job: str, *, force: bool) -> SyncRequest:
        request = SyncRequest(uuid.uuid4().hex, rules.storable(job), force, self._clock())
        await self._change(request.request_id, lambda _held: RequestRow(request, 0.0))
        return request

    async def take(self, *, lease_seconds: float) -> SyncRequest | None:
        """Takes the oldest request that is free. Asked every second, so the list may be a moment
        old; who takes a request is decided by the item itself.
        """
        found = map(_request, await self._items.table.partition(self._requests, consistent=False))
        waiting = [held for held in found if self._takeable(held, lease_seconds) is not None]
        for each in sorted(waiting, key=lambda held: (held.request.asked_at, _id(held))):
            taken = await self._change(
                _id(each),
                lambda held: None if held is None else self._takeable(held, lease_seconds),
            )
            if taken is not None:
                self._taken.add(_id(taken))
                return taken.request
        return None

    def _takeable(self, held: RequestRow, lease_seconds: float) -> RequestRow | None:
        now = self._clock()
        return rules.take_request(
            self._claims.seen_request(held),
            self._claims.owner,
            now=now,
            lease_until=now + lease_seconds,
            taker_gone=False,
        )

    async def renew(
        self, request_id: str, *, lease_seconds: float, progress: str, begun: bool
    ) -> bool:
        renewed = await self._change(
            request_id,
            lambda held: rules.renew_request(
                held,
                self._claims.owner,
                lease_until=self._clock() + lease_seconds,
                progress=progress,
                begun=begun,
            ),
        )
        return renewed is not None

    async def give_back(self, request_id: str) -> None:
        await self._change(
            request_id, lambda held: rules.give_back_request(held, self._claims.owner)
        )
        self._taken.discard(request_id)

    async def answer(self, request_id: str, answer: str) -> bool:
        answered = await self._change(
            request_id, lambda held: rules.answer_request(held, self._claims.owner, answer)
        )
        self._taken.discard(request_id)
        return answered is not None

    async def request(self, request_id: str) -> SyncRequest | None:
        item = await self._items.table.get(self._requests, request_id)
        if item is None:
            return None
        held = self._claims.seen_request(_request(item))
        return rules.seen_request(held, now=self._clock())

    async def requests_about(self, job: str) -> Sequence[SyncRequest]:
        """The newest first."""
        found = [
            _request(item).request for item in await self._items.table.partition(self._requests)
        ]
        about = [each for each in found if keys.ascii_lower(each.job) == keys.ascii_lower(job)]
        return sorted(about, key=lambda each: (-each.asked_at, each.request_id))

    async def withdraw(self, request_id: str) -> bool:
        def rule(item: Item | None) -> ItemDecision[bool]:
            may = rules.may_withdraw(None if item is None else _request(item))
            return ItemDecision(may, delete=may)

        return await self._items.decide(self._requests, request_id, rule)

    async def give_back_all(self) -> None:
        """Lets others take what this process has not answered."""
        await each_of(self.give_back(request_id) for request_id in list(self._taken))

    async def prune(self, older_than: float) -> int:
        """Deletes what is old. Returns how many."""
        table = self._items.table
        old = [
            (self._notes, item)
            for item in await table.partition(self._notes)
            if json.loads(str(item[ROW]))[2] < older_than
        ]
        old += [
            (self._watched, item)
            for item in await table.partition(self._watched)
            if _watched(item).look_again_at < older_than
        ]
        old += [
            (self._requests, item)
            for item in await table.partition(self._requests)
            if _request(item).request.asked_at < older_than
        ]
        await each_of(self._delete(partition, item) for partition, item in old)
        return len(old)

    async def _delete(self, partition: str, item: Item) -> None:
        await self._items.decide(
            partition,
            str(item[SORT_KEY]),
            lambda _found: ItemDecision(None, delete=True),
        )

    async def _change(
        self, request_id: str, change: Callable[[RequestRow | None], RequestRow | None]
    ) -> RequestRow | None:
        """Stores what `change` makes of a request, and returns it."""

        def rule(item: Item | None) -> ItemDecision[RequestRow | None]:
            held = change(None if item is None else _request(item))
            if held is None:
                return ItemDecision(None)
            row = {ROW: json.dumps([asdict(held.request), held.lease_until])}
            return ItemDecision(held, self._items.expiring(row, since=held.request.asked_at))

        return await self._items.decide(self._requests, request_id, rule)


def _id(held: RequestRow) -> str:
    return held.request.request_id


def _note(item: Item) -> tuple[str, str]:
    name, value, *_ = json.loads(str(item[ROW]))
    return name, value


def _watched(item: Item) -> WatchedJob:
    return WatchedJob(*json.loads(str(item[ROW])))


def _request(item: Item) -> RequestRow:
    request, lease_until = json.loads(str(item[ROW]))
    return RequestRow(SyncRequest(**request), lease_until)
