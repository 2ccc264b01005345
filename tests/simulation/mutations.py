"""The rules of the promise, each broken on purpose: the simulation must find every one. `python -m
tests.simulation mutations`.

A mutation is a context manager that breaks one rule in this interpreter. `found_after` counts the
histories until one fails.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.aws.queue import SqsQueue
from daemon.checkpoint import rules
from daemon.checkpoint.journal import Journal
from daemon.checkpoint.ports import JobRecord, JobState, WriterLease
from daemon.checkpoint.sqlite import claim_rows, job_rows
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.checkpoint.writer_lease import WriterLeaseKeeper
from daemon.errors import EdgeFault
from daemon.intake.breaker import Breaker
from daemon.intake.heartbeat import Heartbeat
from daemon.outcome import Deferred, Held
from daemon.pipeline import flow, vouching
from daemon.pipeline.flow import Flow
from daemon.pipeline.worker import Worker
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.write_session import WriteSession
from daemon.targets.modeldb_v2 import target as v2_target
from daemon.targets.modeldb_v2.errors import ApiError
from daemon.training_job.described_job import described_status
from daemon.training_job.event import MalformedBody, OtherEvent, parse_event
from daemon.training_job.final_status import TERMINAL_STATUSES
from daemon.training_job.tags import SyncTagAbsent, TagsIncomplete, read_tags
from tests.simulation.history import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from daemon.targets.modeldb_v1.connection import Connection


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        rule: what no longer holds.
        targets: where it can show.
        broken: breaks it as long as the context lasts.
        kind: of the histories that can show it; "": the default mix.
    """

    rule: str
    targets: tuple[str, ...]
    broken: Callable[[], AbstractContextManager[object]]
    kind: str = ""


def found_after(mutation: Mutation, most: int) -> tuple[int, str] | None:
    """How many histories it took until one went wrong, and what was wrong; None: none of so many
    did.
    """
    with mutation.broken():
        for number in range(most):
            target = mutation.targets[number % len(mutation.targets)]
            result = run(number // len(mutation.targets), target, mutation.kind)
            if result.wrongs:
                seed = f"{target} seed {result.plan.seed} ({result.plan.kind})"
                return number + 1, f"{seed}: {result.wrongs[0]}"
    return None


def _async(value: object = None) -> Callable[..., Any]:
    async def answer(*_arguments: object, **_more: object) -> object:
        return value

    return answer


def _delete_before_record() -> AbstractContextManager[object]:
    real = Worker._work

    async def work(self: Worker, entry: Any) -> Any:
        await self._acknowledgements.delete(entry)
        return await real(self, entry)

    return mock.patch.object(Worker, "_work", work)


@contextlib.contextmanager
def _anybody_may_claim() -> Iterator[None]:
    def claim(_held: Any, wanted: Any, *, lease_until: float, **_more: Any) -> rules.ClaimRow:
        return rules.ClaimRow(wanted, lease_until)

    def require_lease(_held: Any, given: Any, **_more: Any) -> rules.ClaimRow:
        return rules.ClaimRow(given, 9e12)

    with (
        mock.patch.object(rules, "claim", claim),
        mock.patch.object(rules, "require_lease", require_lease),
        # a lock cannot be stored once its claim is gone
        mock.patch.object(claim_rows, "put_lock", return_value=None),
    ):
        yield


def _no_locks() -> AbstractContextManager[object]:
    return mock.patch.object(rules, "lock_name", lambda _held, wanted, **_more: wanted)


def _no_intent() -> AbstractContextManager[object]:
    async def begin_write(self: Journal, _lock_name: str) -> None:
        self._unanswered += 1
        self._write_under_way = self._begun = True

    return mock.patch.object(Journal, "begin_write", begin_write)


def _no_settling() -> AbstractContextManager[object]:
    async def finished(self: Any, found: Any, *, created: bool = False) -> Any:
        self._journal.settled()
        return await self._runs.keep_oldest(found[:1], created=created)

    return mock.patch.object(v2_target._JobSync, "_finished", finished)


@contextlib.contextmanager
def _no_look_up() -> Iterator[None]:
    # either look alone is enough for most histories, because a run found late is healed: both are
    # broken
    with (
        mock.patch.object(v2_target._JobSync, "_must_look_up", property(lambda _self: False)),
        _no_settling(),
    ):
        yield


def _a_time_out_means_not_done() -> AbstractContextManager[object]:
    @contextlib.contextmanager
    def broken() -> Any:
        real = ApiError.__init__

        def init(self: ApiError, *arguments: Any, **more: Any) -> None:
            real(self, *arguments, **{**more, "outcome_unknown": False})

        with mock.patch.object(ApiError, "__init__", init):
            yield

    return broken()


def _outages_are_deferred() -> AbstractContextManager[object]:
    real = Flow.process

    async def process(self: Flow, entry: Any) -> Any:
        outcome = await real(self, entry)
        if isinstance(outcome, Held):
            return await self.record(entry, Deferred(Reason.TARGET_FAULT, outcome.detail))
        return outcome

    return mock.patch.object(Flow, "process", process)


def _young_checkpoint_vouches() -> AbstractContextManager[object]:
    return mock.patch.object(Journal, "look_up_first", property(lambda _self: False))


def _event_tags_decide() -> AbstractContextManager[object]:
    async def tags(self: Flow, _entry: Any, event: Any, *_more: Any) -> Any:
        reported = event.tags or {}
        return read_tags(reported, self._rules.tag_keys), reported

    return mock.patch.object(Flow, "_tags", tags)


def _deleting_is_not_the_end() -> AbstractContextManager[object]:
    def final(_event: Any, description: Any) -> str | None:
        status = described_status(description)
        return status if status in TERMINAL_STATUSES else None

    return mock.patch.object(flow, "final_status", final)


@contextlib.contextmanager
def _two_writers() -> Iterator[None]:
    def take(_held: Any, server_id: str, owner: str, **_more: Any) -> rules.WriterLeaseRow:
        return rules.WriterLeaseRow(WriterLease(server_id, owner, 1), 9e12)

    def renew(_held: Any, given: WriterLease, **_more: Any) -> rules.WriterLeaseRow:
        return rules.WriterLeaseRow(given, 9e12)

    with (
        mock.patch.object(rules, "take_writer_lease", take),
        mock.patch.object(rules, "renew_writer_lease", renew),
    ):
        yield


def _no_settling_after_connect() -> AbstractContextManager[object]:
    real = WriteSession.__init__

    def init(self: WriteSession, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **{**more, "settle_seconds": 0.0})

    return mock.patch.object(WriteSession, "__init__", init)


def _no_grace() -> AbstractContextManager[object]:
    real = WriterLeaseKeeper.__init__

    def init(self: WriterLeaseKeeper, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more)
        self._grace_seconds = 0.0

    return mock.patch.object(WriterLeaseKeeper, "__init__", init)


def _lease_of_a_gone_holder_is_free() -> AbstractContextManager[object]:
    def end(held: rules.WriterLeaseRow, **_more: Any) -> rules.WriterLeaseRow:
        return replace(held, lease_until=0.0)

    return mock.patch.object(rules, "end_writer_lease", end)


def _no_probe_before_a_term() -> AbstractContextManager[object]:
    real = WriteSession.__init__

    async def read(connection: Connection) -> None:
        await connection.call("testConnection")

    def init(self: WriteSession, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **{**more, "probe": _async(), "read_stores": read})

    return mock.patch.object(WriteSession, "__init__", init)


def _all_is_the_jobs_own() -> AbstractContextManager[object]:
    real = EdgeFault.__init__

    def init(self: EdgeFault, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **{**more, "may_be_the_jobs": True})

    return mock.patch.object(EdgeFault, "__init__", init)


def _malformed_is_skipped() -> AbstractContextManager[object]:
    def parse(body: str) -> Any:
        parsed = parse_event(body)
        return OtherEvent("?") if isinstance(parsed, MalformedBody) else parsed

    return mock.patch.object(flow, "parse_event", parse)


def _half_tagged_is_skipped() -> AbstractContextManager[object]:
    def read(*arguments: Any) -> Any:
        tags = read_tags(*arguments)
        return SyncTagAbsent() if isinstance(tags, TagsIncomplete) else tags

    return mock.patch.object(flow, "read_tags", read)


def _failed_send_is_sent() -> AbstractContextManager[object]:
    real = SqsQueue.send_dead_letter

    async def send(self: SqsQueue, *arguments: Any) -> None:
        with contextlib.suppress(EdgeFault):
            await real(self, *arguments)

    return mock.patch.object(SqsQueue, "send_dead_letter", send)


@contextlib.contextmanager
def _a_copy_vouches() -> Iterator[None]:
    # either condition alone is enough for what a person sends after a copy was put back
    made = property(lambda self: self._database.created_at)
    with (
        mock.patch.object(SqliteCheckpoint, "opened_at", made),
        mock.patch.object(vouching, "_is_as_eventbridge_sent_it", return_value=True),
    ):
        yield


@contextlib.contextmanager
def _done_anywhere() -> Iterator[None]:
    with (
        mock.patch.object(job_rows, "_OF_TARGET", "1 ORDER BY creation_time DESC, updated_at DESC"),
        mock.patch.object(rules, "seen_from", lambda _target, row: row),
        mock.patch.object(JobRecord, "done", property(lambda row: row.state is JobState.SYNCED)),
    ):
        yield


def _disk_has_no_deadline() -> AbstractContextManager[object]:
    real = GroupCommit.__init__

    def init(self: GroupCommit, database: Any, **more: Any) -> None:
        real(self, database, **{**more, "call_seconds": 9e9})

    return mock.patch.object(GroupCommit, "__init__", init)


@contextlib.contextmanager
def _one_beat() -> Iterator[None]:
    """Messages are renewed when the claims have been."""
    real = Heartbeat._renew_messages

    async def renew(self: Heartbeat) -> None:
        await self._renew_claims()
        await real(self)

    with mock.patch.object(Heartbeat, "_renew_messages", renew), _disk_has_no_deadline():
        yield


BOTH = ("modeldb-v2", "modeldb-v1")
V2, V1 = ("modeldb-v2",), ("modeldb-v1",)

MUTATIONS = (
    Mutation(
        "a message is deleted only after its outcome is recorded", BOTH, _delete_before_record
    ),
    Mutation(
        "the heartbeat keeps messages hidden",
        BOTH,
        lambda: mock.patch.object(Heartbeat, "_renew_messages", _async()),
    ),
    Mutation(
        "one process works on a job; a claim has an owner, a lease and a fence",
        V2,
        _anybody_may_claim,
    ),
    Mutation("a project and an experiment are made under a lock of their name", V2, _no_locks),
    Mutation("the intent of a create is durable before it is sent", V2, _no_intent),
    Mutation("after a create without an answer the target is asked by the mark", V2, _no_look_up),
    Mutation(
        "after a success that follows an unknown create, duplicates are healed", V2, _no_settling
    ),
    Mutation("a time-out is not taken for 'not done'", V2, _a_time_out_means_not_done),
    Mutation(
        "an outage of the target holds messages instead of giving them back",
        BOTH,
        _outages_are_deferred,
    ),
    Mutation(
        "a young checkpoint does not vouch that a job is new", BOTH, _young_checkpoint_vouches
    ),
    Mutation("no job is skipped or rejected for its event's tags", BOTH, _event_tags_decide),
    Mutation("a job that is being deleted has ended", BOTH, _deleting_is_not_the_end),
    Mutation("one process at a time writes to a ModelDB V1", V1, _two_writers),
    Mutation(
        "after a connect to ModelDB V1 nothing is read before it has settled",
        V1,
        _no_settling_after_connect,
    ),
    Mutation(
        "a rejected message goes to the dead-letter queue",
        BOTH,
        lambda: mock.patch.object(Worker, "_send_to_dead_letters", _async(True)),
    ),
    Mutation("a grace follows the end of a writer lease", V1, _no_grace, "standby"),
    Mutation(
        "the grace follows also when the holder is known to be gone",
        V1,
        _lease_of_a_gone_holder_is_free,
        "standby",
    ),
    Mutation(
        "who becomes the writer probes ModelDB V1 and its MongoDB first",
        V1,
        _no_probe_before_a_term,
        "standby",
    ),
    Mutation(
        "only a fresh event of a job that ended under this checkpoint needs no look-up",
        BOTH,
        lambda: mock.patch.object(vouching, "_is_fresh", return_value=True),
        "lost checkpoint",
    ),
    Mutation(
        "what ended before this process opened the checkpoint is looked up",
        BOTH,
        _a_copy_vouches,
        "lost checkpoint",
    ),
    Mutation(
        "a throttled call is never the job's own fault", BOTH, _all_is_the_jobs_own, "throttling"
    ),
    Mutation(
        "a receive that works resets the queue's back-off",
        BOTH,
        lambda: mock.patch.object(Breaker, "worked", return_value=None),
        "short faults",
    ),
    Mutation("a malformed message is rejected, not skipped", BOTH, _malformed_is_skipped),
    Mutation("a half-tagged job is rejected, not skipped", BOTH, _half_tagged_is_skipped),
    Mutation(
        "a message whose dead letter was not sent is kept", BOTH, _failed_send_is_sent, "rejections"
    ),
    Mutation("a job is done for one target only", BOTH, _done_anywhere, "another place"),
    Mutation(
        "messages are renewed also while the checkpoint hangs", BOTH, _one_beat, "hanging disk"
    ),
)
