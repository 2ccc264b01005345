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

from daemon.aws.ports import OutgoingMessage
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
from daemon.operations import redrive
from daemon.outcome import Deferred, Held
from daemon.pipeline import flow, vouching
from daemon.pipeline.flow import Flow
from daemon.pipeline.worker import Worker
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.write_session import WriteSession
from daemon.targets.modeldb_v2 import differences
from daemon.targets.modeldb_v2 import target as v2_target
from daemon.targets.modeldb_v2.errors import ApiError
from daemon.training_job.described_job import described_status
from daemon.training_job.event import MalformedBody, OtherEvent, parse_event
from daemon.training_job.final_status import TERMINAL_STATUSES
from daemon.training_job.tags import SyncTagAbsent, TagsIncomplete, read_tags
from tests.simulation import (
    backfill,
    dynamodb_mutations,
    mlflow_mutations,
    reconcile_mutations,
)
from tests.simulation.handing_over import (
    answered_first,
    never_taken_again,
    not_in_the_ledger,
    taken_twice,
    withdrawn_in_the_middle,
)
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


def _letters_are_deleted_first() -> AbstractContextManager[object]:
    real = redrive.Copier._move

    async def move(self: redrive.Copier, batch: Any) -> list[str]:
        deleted = await self._delete({each.message_id: each.receipt_handle for each, _ in batch})
        await real(self, batch)
        return deleted

    return mock.patch.object(redrive.Copier, "_move", move)


def _every_entry_is_accepted() -> AbstractContextManager[object]:
    async def send(queue: Any, copies: Any, done: redrive.Redriven) -> Any:
        await queue.send(list(copies.values()))
        done.sent += copies
        return set(copies), None

    return mock.patch.object(redrive, "_send", send)


def _repairs_without_a_look() -> AbstractContextManager[object]:
    real = v2_target._JobSync.sync

    async def sync(self: Any, *, look_up_first: bool = False) -> Any:
        if look_up_first:
            self._journal._look_up_first = False
        return await real(self)

    return mock.patch.object(v2_target._JobSync, "sync", sync)


def _all_keys_are_ours() -> AbstractContextManager[object]:
    def outdated(stored: Any, wanted: Any, _mapped: Any) -> Any:
        return [key for key in stored if key not in wanted]

    return mock.patch.object(differences, "_outdated", outdated)


def _all_descriptions_are_ours() -> AbstractContextManager[object]:
    def description(stored: Any, mapped: Any, *_more: Any) -> Any:
        wanted = mapped.body["description"]
        return (wanted if stored.description != wanted else None), ()

    return mock.patch.object(differences, "_description", description)


BOTH = ("modeldb-v2", "modeldb-v1")
V2, V1, MLFLOW = ("modeldb-v2",), ("modeldb-v1",), ("mlflow",)
HANDED_OVER = "handed over"

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
    Mutation(
        "after a create without an answer the target is asked by the mark",
        V2,
        _no_look_up,
        "lost creates",
    ),
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
    Mutation(
        "a handed-over job waits for a message of the same job", V1, not_in_the_ledger, HANDED_OVER
    ),
    Mutation("a request is answered after its outcome is durable", V1, answered_first, HANDED_OVER),
    Mutation("one process at a time serves a request", V1, taken_twice, HANDED_OVER),
    Mutation("a request whose daemon has ended is taken again", V1, never_taken_again, HANDED_OVER),
    Mutation(
        "a request is withdrawn only until it is begun", V1, withdrawn_in_the_middle, HANDED_OVER
    ),
    Mutation(
        "a dead letter is deleted only when the queue has accepted its copy",
        BOTH,
        _letters_are_deleted_first,
        "redrive",
    ),
    Mutation(
        "a copy that the queue has not accepted is none", BOTH, _every_entry_is_accepted, "redrive"
    ),
    Mutation(
        "a dead letter keeps its reason, so that its old tags do not count",
        BOTH,
        lambda: mock.patch.object(
            redrive, "copy_of", lambda body, _attributes: OutgoingMessage(body)
        ),
        "redrive",
    ),
    Mutation(
        "a letter that is rejected again is not sent again by the same redrive",
        BOTH,
        lambda: mock.patch.object(redrive.Copier, "_came_back", return_value=False),
        "redrive",
    ),
    Mutation("a job is done for one target only", BOTH, _done_anywhere, "another place"),
    Mutation(
        "a repair looks for the job's run before anything else",
        ("modeldb-v2",),
        _repairs_without_a_look,
        "by hand",
    ),
    Mutation(
        "a repair changes only keys that this program writes",
        ("modeldb-v2",),
        _all_keys_are_ours,
        "by hand",
    ),
    Mutation(
        "a repair leaves a description that people wrote",
        ("modeldb-v2",),
        _all_descriptions_are_ours,
        "by hand",
    ),
    Mutation(
        "messages are renewed also while the checkpoint hangs", BOTH, _one_beat, "hanging disk"
    ),
    Mutation(
        "reconcile's position moves when a scan is complete, to the newest job listed",
        BOTH,
        reconcile_mutations.position_before_the_scan,
        "lost events",
    ),
    Mutation(
        "reconcile sends a message first and records it then",
        BOTH,
        reconcile_mutations.recorded_before_sent,
        "lost events",
    ),
    Mutation(
        "a job that ended minutes ago is seen again by reconcile",
        BOTH,
        reconcile_mutations.too_young_is_forgotten,
        "lost events",
    ),
    Mutation(
        "reconcile watches jobs that have not ended",
        BOTH,
        reconcile_mutations.nothing_is_watched,
        "lost events",
    ),
    Mutation(
        "a backfill saves its position after the batch is sent",
        BOTH,
        backfill.position_before_send,
        backfill.KIND,
    ),
    Mutation(
        "a backfill sends failed entries of a batch again",
        BOTH,
        backfill.failed_entries_are_sent,
        backfill.KIND,
    ),
    Mutation(
        "a backfill leaves out only what is synced",
        BOTH,
        backfill.rejected_is_left_out,
        backfill.KIND,
    ),
    Mutation(
        "a backfill that is resumed misses no job of the same moment",
        BOTH,
        backfill.one_job_a_moment,
        backfill.KIND,
    ),
    Mutation(
        "MLflow: the terminal status is sent last",
        MLFLOW,
        mlflow_mutations.status_before_the_rest,
    ),
    Mutation(
        "MLflow: a running run with the mark is not complete",
        MLFLOW,
        mlflow_mutations.running_is_complete,
    ),
    Mutation(
        "MLflow: after a create without an answer the job's run is looked for",
        MLFLOW,
        mlflow_mutations.no_look_after_an_unknown_create,
        "lost creates",
    ),
    Mutation(
        "MLflow: while a create may still be carried out nothing is created",
        MLFLOW,
        mlflow_mutations.no_settling,
        "lost creates",
    ),
    Mutation(
        "MLflow: also reads that lag behind have settled before they count",
        MLFLOW,
        mlflow_mutations.no_settling,
        "replica lag",
    ),
    Mutation(
        "MLflow: a model version is looked for before it is created",
        MLFLOW,
        mlflow_mutations.version_without_a_look,
    ),
    Mutation(
        "MLflow: of several runs the first one stays",
        MLFLOW,
        mlflow_mutations.newest_stays,
        "doubles",
    ),
    Mutation(
        "MLflow: what a person deleted is not made again",
        MLFLOW,
        mlflow_mutations.deleted_is_made_again,
        "people",
    ),
    Mutation(
        "MLflow: what people edited stays",
        MLFLOW,
        mlflow_mutations.edited_runs_are_filled,
        "people",
    ),
    Mutation(
        "MLflow: a repair leaves descriptions that people wrote",
        MLFLOW,
        mlflow_mutations.all_descriptions_are_ours,
        "by hand",
    ),
    Mutation(
        "MLflow: a repair deletes only tags that this program writes",
        MLFLOW,
        mlflow_mutations.all_tags_are_ours,
        "by hand",
    ),
    Mutation(
        "MLflow: the mark is in the create of the run",
        MLFLOW,
        mlflow_mutations.mark_after_the_create,
    ),
    Mutation(
        "MLflow: a duplicate has the tag that says so before it is deleted",
        MLFLOW,
        mlflow_mutations.double_without_a_word,
        "doubles",
    ),
    Mutation(
        "MLflow: the model versions of a duplicate are deleted with it",
        MLFLOW,
        mlflow_mutations.versions_of_doubles_stay,
        "doubles",
    ),
    Mutation("MLflow: the intent of a create is durable before it is sent", MLFLOW, _no_intent),
    Mutation(
        "DynamoDB: an item is written on the condition that it is as it was read",
        BOTH,
        dynamodb_mutations.unconditional_put,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: whoever lost a claim writes nothing more",
        BOTH,
        dynamodb_mutations.fence_not_compared,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: a claim that is not written yet is lost when another process was quicker",
        BOTH,
        dynamodb_mutations.unwritten_claim_not_compared,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: what was decided on an older item is decided again",
        BOTH,
        dynamodb_mutations.written_over_after_a_second_look,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: a write is conditional on the version that was decided on",
        BOTH,
        dynamodb_mutations.stale_document_decides,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: without a dead-letter queue the body of a rejected message is kept",
        BOTH,
        dynamodb_mutations.bodies_not_kept,
        "hosts mixed",
    ),
    Mutation(
        "DynamoDB: a claim of another host counts until its lease has ended",
        BOTH,
        dynamodb_mutations.claims_of_others_have_ended,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: one host at a time writes to a ModelDB V1",
        V1,
        dynamodb_mutations.writers_of_others_not_seen,
        "hosts writers",
    ),
    Mutation(
        "DynamoDB: the intent of a create is in the table before it is sent",
        V2,
        _no_intent,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: after a create without an answer the target is asked by the mark",
        V2,
        _no_look_up,
        "hosts paused",
    ),
    Mutation(
        "DynamoDB: doubles of two hosts are healed",
        V2,
        _no_settling,
        "hosts paused",
    ),
)
