"""The rules of the promise, each broken on purpose: the simulation must find every one. `python -m
tests.simulation mutations`.

A mutation is a context manager that breaks one rule in this interpreter. `found_after` counts the
histories until one fails.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.checkpoint import rules
from daemon.checkpoint.journal import Journal
from daemon.checkpoint.ports import WriterLease
from daemon.checkpoint.sqlite import claim_rows
from daemon.intake.heartbeat import Heartbeat
from daemon.outcome import Deferred, Held
from daemon.pipeline.flow import Flow
from daemon.pipeline.worker import Worker
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.write_session import WriteSession
from daemon.targets.modeldb_v2 import target as v2_target
from daemon.targets.modeldb_v2.errors import ApiError
from daemon.training_job.tags import read_tags
from tests.simulation.history import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        rule: what no longer holds.
        targets: where it can show.
        broken: breaks it as long as the context lasts.
    """

    rule: str
    targets: tuple[str, ...]
    broken: Callable[[], AbstractContextManager[object]]


def found_after(mutation: Mutation, most: int) -> tuple[int, str] | None:
    """How many histories it took until one went wrong, and what was wrong; None: none of so many
    did.
    """
    with mutation.broken():
        for number in range(most):
            target = mutation.targets[number % len(mutation.targets)]
            result = run(number // len(mutation.targets), target)
            if result.wrongs:
                return number + 1, f"{target} seed {result.plan.seed}: {result.wrongs[0]}"
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
    async def tags(self: Flow, _entry: Any, event: Any, _arn: Any) -> Any:
        reported = event.tags or {}
        return read_tags(reported, self._rules.tag_keys), reported

    return mock.patch.object(Flow, "_tags", tags)


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
)
