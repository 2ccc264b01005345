"""What an operator sees of failures whose handling is shown elsewhere: the log line of each, by the
text that people search for.

`docs/failure-modes.md` names these tests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.app import Daemon, _closing
from daemon.aws.ports import Failed
from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import SqliteCheckpoint, open_sqlite_checkpoint
from daemon.checkpoint.writer_lease import SPARE_SECONDS
from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.errors import EdgeFault, JobRefused
from daemon.intake.acknowledgements import ATTEMPTS
from daemon.intake.queue_monitor import LEAST_VISIBILITY_SECONDS, QueueMonitor
from daemon.observability.watchdog import Watchdog
from daemon.outcome import Edge, Reason
from daemon.pipeline.delivery import RELEASE_AFTER_SECONDS
from daemon.supervisor import Supervisor
from tests.support.checkpoint_calls import FakeClock
from tests.support.flow_doubles import MemoryQueue, arn_of, edge_fault, flow_scene, message
from tests.support.modeldb_v1_connections import nothing_left_behind
from tests.support.modeldb_v1_target import (
    at_each_call,
    full_job,
    lose,
    mixed_up,
    target_on,
    until_synced,
)
from tests.support.modeldb_v2_target import MemoryJournal
from tests.support.settings_factory import settings
from tests.unit.checkpoint.test_writer_lease import CALL, Role
from tests.unit.intake.test_acknowledgements import AGAIN, STALE, desk
from tests.unit.intake.test_acknowledgements import entry as acknowledged
from tests.unit.intake.test_heartbeat import beating, received
from tests.unit.intake.test_poller import Polling
from tests.unit.targets.modeldb_v1.test_job_sync_without_metadata_store import add_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from structlog.typing import EventDict

    from tests.support.flow_doubles import FlowScene


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest_asyncio.fixture
async def scene(path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(path) as made:
        yield made


def lines(logs: Sequence[EventDict], event: str) -> list[EventDict]:
    return [line for line in logs if line["event"] == event]


# Queue
# ---


async def test_an_acknowledgement_that_is_given_up_is_told() -> None:
    async with desk() as at:
        at.queue.refusals["m-1/1"] = deque([AGAIN] * ATTEMPTS)
        with capture_logs() as logs:
            assert not await at.delete(acknowledged(1))
    [line] = lines(logs, "acknowledgement failed, the message will be delivered again")
    assert (line["log_level"], line["acknowledgement"], line["receive_count"]) == (
        "warning",
        "delete",
        1,
    )
    assert line["detail"] == "InternalError: try again"


async def test_an_old_receipt_handle_alarms_nobody() -> None:
    async with desk() as at:
        at.queue.refusals["m-1/1"] = deque([STALE])
        with capture_logs() as logs:
            assert not await at.delete(acknowledged(1))
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("message will be delivered again", "info")
    ]


async def test_a_message_that_comes_again_while_in_flight_alarms_nobody() -> None:
    async with Polling() as polling:
        with capture_logs() as logs:
            await polling.answer([message()])
            await polling.answer([message(receive_count=2)])
    [line] = lines(logs, "message received again while in flight")
    assert (line["log_level"], line["receive_count"]) == ("info", 2)


async def test_a_refused_heartbeat_is_told_with_the_queues_words(scene: FlowScene) -> None:
    received(scene, 1)
    scene.queue.refusals["m-1/1"] = deque([Failed("AccessDenied", "not allowed", stale=False)])
    with capture_logs() as logs:
        async with beating(scene) as heart:
            await heart.rounds(2)
    [line] = lines(logs, "heartbeat refused")
    assert (line["log_level"], line["code"], line["message_id"]) == (
        "warning",
        "AccessDenied",
        "m-1",
    )
    assert heart.beats["failed"] == 1


async def test_a_lost_claim_is_told_with_its_job(scene: FlowScene, path: Path) -> None:
    waiting = scene.target.then_wait(begun=True)
    _, task = scene.start()
    await waiting.reached.wait()
    scene.clock.now += 61
    other = await open_sqlite_checkpoint(path, clock=scene.clock)
    assert isinstance(await other.claim(arn_of("churn-1"), 60.0), Claim)
    with capture_logs() as logs:
        async with beating(scene), asyncio.timeout(5):
            await task
    await other.aclose()
    [line] = lines(logs, "claim lost")
    assert (line["log_level"], line["job"]) == ("warning", arn_of("churn-1"))


@pytest.mark.parametrize(
    ("own", "asked"), [(0, LEAST_VISIBILITY_SECONDS), (1, LEAST_VISIBILITY_SECONDS), (120, 120)]
)
async def test_a_queue_with_a_very_short_visibility_timeout_is_asked_for_a_longer_one(
    own: int, asked: int
) -> None:
    """Shorter than the heartbeat's round, every message would come again while it is worked on."""
    queue = MemoryQueue()
    queue.own_visibility_seconds = own
    monitor = QueueMonitor(queue, None)
    await monitor.refresh()
    assert monitor.visibility_seconds() == asked


# SageMaker
# ---


async def test_a_description_without_a_creation_time_puts_its_job_off(scene: FlowScene) -> None:
    """Without it there is no mark, and a job without a mark would be recorded twice."""
    scene.jobs.put("churn-1", CreationTime=None)
    outcome = await scene.handle()
    assert (outcome.kind, outcome.reason) == ("deferred", Reason.SAGEMAKER_FAULT)
    assert not scene.target.runs


# Dead letters
# ---


@pytest.mark.parametrize(
    ("error", "event", "outcome"),
    [
        (
            JobRefused(Reason.MALFORMED_BODY, "characters"),
            "dead-letter queue refuses the message; its body is kept in the checkpoint",
            "rejected",
        ),
        (
            edge_fault(Edge.QUEUE, Reason.ACCESS_DENIED),
            "dead-letter queue does not take the message; it is tried again later",
            "deferred",
        ),
    ],
)
async def test_a_dead_letter_that_is_not_taken_is_told(
    scene: FlowScene, error: Exception, event: str, outcome: str
) -> None:
    scene.queue.faults["send"] = deque([error])
    with capture_logs() as logs:
        assert (await scene.handle(message("no event"))).kind == outcome
    [line] = lines(logs, event)
    assert line["log_level"] == "warning"
    assert line["detail"]


# Time and held messages
# ---


async def test_a_write_without_an_answer_is_still_known_when_its_message_was_held_too_long(
    scene: FlowScene,
) -> None:
    """The next receive, hours later, must not take the job for one that was never written."""
    scene.back[Edge.TARGET].clear()
    scene.target.then_raise(edge_fault(), begun=1)
    delivery, task = scene.start()
    await scene.waiting_for(Edge.TARGET)
    delivery.received_at -= RELEASE_AFTER_SECONDS + 1
    delivery.give_back()
    async with asyncio.timeout(5):
        await task
    assert scene.outcomes[-1][1].reason is Reason.HELD_TOO_LONG
    scene.back[Edge.TARGET].set()
    assert (await scene.handle(message(receive_count=2))).kind == "synced"
    assert [unanswered for unanswered, _ in scene.target.told] == [0, 1]


# The process
# ---


async def test_a_bug_is_told_with_its_step_and_traceback(scene: FlowScene) -> None:
    scene.target.then_raise(ZeroDivisionError("division"))
    with capture_logs() as logs:
        assert (await scene.handle()).reason is Reason.INTERNAL_ERROR
    [line] = lines(logs, "internal error")
    assert (line["log_level"], line["step"]) == ("error", "sync")
    assert isinstance(line["exc_info"], ZeroDivisionError)


async def test_a_task_that_ends_is_told_by_name() -> None:
    stop = asyncio.Event()

    async def dies() -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        Supervisor(stop, Watchdog()).loop("poller 1", dies())
        async with asyncio.timeout(5):
            await stop.wait()
    [line] = lines(logs, "a task of the daemon ended; stopping")
    assert (line["log_level"], line["task"], line["error"]) == (
        "error",
        "poller 1",
        "RuntimeError('a bug')",
    )


@pytest_asyncio.fixture
async def lonely(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Daemon, asyncio.Task[None]]]:
    """A running daemon that reaches nobody."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    nowhere = "http://127.0.0.1:9"
    daemon = Daemon(
        settings(
            path,
            aws={
                "region": "eu-west-1",
                "account_id": "123456789012",
                "sqs_endpoint_url": nowhere,
                "sagemaker_endpoint_url": nowhere,
            },
            http={"host": "127.0.0.1", "port": 0},
            shutdown={"grace_seconds": 25},
        )
    )
    running = asyncio.create_task(daemon.run())
    async with asyncio.timeout(20):
        await daemon.started.wait()
    yield daemon, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


STOP = ["stopping", "drained"]


async def test_a_task_that_ends_stops_the_daemon_in_order(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    daemon, running = lonely

    async def dies() -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        daemon._supervisor.loop("another loop", dies())
        async with asyncio.timeout(10):
            with pytest.raises(RuntimeError, match="a bug"):
                await running
    assert [line["event"] for line in logs if line["event"] in STOP] == STOP
    assert not daemon._readyz().ok


async def test_a_daemon_that_is_cancelled_stops_on_the_same_path(
    lonely: tuple[Daemon, asyncio.Task[None]],
) -> None:
    _, running = lonely
    with capture_logs() as logs:
        running.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await running
    assert [line["event"] for line in logs if line["event"] in STOP] == STOP


async def test_a_long_poll_that_outlives_the_stop_is_told(path: Path) -> None:
    poll = asyncio.create_task(asyncio.Event().wait())
    with capture_logs() as logs:
        await Daemon(settings(path))._end_polls([poll], 0.01)  # type: ignore[list-item] # a poll that never ends
    poll.cancel()
    assert lines(
        logs,
        "a long poll did not end in time; what it takes stays hidden for its visibility timeout",
    )


async def test_writes_that_outlive_the_stop_are_counted(path: Path) -> None:
    daemon = Daemon(settings(path))
    delivery = daemon._in_flight.add(message(), 30)
    assert delivery is not None
    asyncio.get_running_loop().call_later(0.05, daemon._in_flight.remove, delivery)
    with capture_logs() as logs:
        await daemon._drain(0.01)
    assert [line["count"] for line in lines(logs, "writes without an answer are left")] == [1]
    assert delivery.released.is_set()


async def test_a_part_that_does_not_close_keeps_no_other_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise OSError("a bug")

    monkeypatch.setattr("daemon.app.CLOSE_SECONDS", 0.01)
    with capture_logs() as logs:
        await _closing("target", never)
        await _closing("checkpoint", fails)
    assert [(line["event"], line["part"]) for line in logs] == [
        ("a part did not close in time", "target"),
        ("a part failed to close", "checkpoint"),
    ]


# The writer of a ModelDB V1
# ---


async def test_a_lease_that_runs_out_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    checkpoint = await open_sqlite_checkpoint(path, clock=clock)
    role = Role(checkpoint, clock)
    await role.round()

    async def refuse(*_arguments: object) -> bool:
        raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")

    monkeypatch.setattr(checkpoint, "renew_writer_lease", refuse)
    clock.now += CALL + SPARE_SECONDS
    with capture_logs() as logs:
        await role.round()
    await checkpoint.aclose()
    [line] = lines(logs, "no longer the writer")
    assert (line["log_level"], line["writing_to"], line["why"]) == (
        "error",
        "modeldb:6543",
        "its lease has run out unrenewed",
    )


async def test_a_lease_that_cannot_be_given_back_is_told_and_keeps_nothing_from_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    checkpoint = await open_sqlite_checkpoint(path, clock=clock)
    role = Role(checkpoint, clock)
    await role.round()

    async def refuse(*_arguments: object) -> None:
        raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")

    monkeypatch.setattr(checkpoint, "release_writer_lease", refuse)
    with capture_logs() as logs:
        await role.writer.release()
    await checkpoint.aclose()
    [line] = lines(logs, "the right to write could not be given back")
    assert (line["log_level"], line["writing_to"], line["detail"]) == (
        "warning",
        "modeldb:6543",
        "disk full",
    )
    assert not role.writer.holds


async def test_a_checkpoint_that_hangs_is_told_and_costs_the_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    checkpoint: SqliteCheckpoint = await open_sqlite_checkpoint(path, clock=clock)
    role = Role(checkpoint, clock)
    await role.round()

    async def hang(*_arguments: object) -> bool:
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr(checkpoint, "renew_writer_lease", hang)
    clock.now += CALL + SPARE_SECONDS - 1
    with capture_logs() as logs:
        waiting = asyncio.create_task(role.round())  # waits as long as the lease lasts: a second
        await asyncio.sleep(0)
        clock.now += 1
        await waiting
    await checkpoint.aclose()
    assert [line["event"] for line in logs] == [
        "the checkpoint does not answer in time",
        "no longer the writer",
    ]
    assert role.ended == 1


async def test_a_writer_whose_lease_was_lost_to_a_clock_that_jumped_hears_of_it_at_its_next_renewal(
    path: Path,
) -> None:
    """The checkpoint's leases are on the wall clock, for processes must agree on them; a writer
    measures its own with the other one.
    """
    wall, monotonic = FakeClock(), FakeClock()
    checkpoint, other = (
        await open_sqlite_checkpoint(path, clock=wall),
        await open_sqlite_checkpoint(path, clock=wall),
    )
    first, second = Role(checkpoint, monotonic), Role(other, monotonic)
    await first.round()
    await second.round()
    assert (first.writer.holds, second.writer.holds) == (True, False)
    wall.now += 3600
    await second.round()
    assert second.writer.holds
    with capture_logs() as logs:
        await first.round()
    await checkpoint.aclose()
    await other.aclose()
    assert (first.writer.holds, first.writer.may_send(), first.ended) == (False, False, 1)
    assert [line["why"] for line in lines(logs, "no longer the writer")] == [
        "another process has taken over"
    ]


# ModelDB V1
# ---


async def test_what_another_writer_spoils_is_told() -> None:
    async with (
        nothing_left_behind(),
        ModelDbV1StandIn(mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=True) as target,
    ):
        server.faults.foreign_writer("TransformerSpec")
        with capture_logs() as logs:
            await mixed_up(server, target, MemoryJournal())
    [line] = lines(logs, "another writer on ModelDB V1")
    assert (line["log_level"], line["method"]) == ("error", "storeFitEvent")


async def test_a_model_that_is_recorded_as_it_is_is_told() -> None:
    async with (
        nothing_left_behind(),
        ModelDbV1StandIn(mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=True) as target,
    ):
        at_each_call(
            server,
            "storeMetricEvent",
            lambda: list(server.store.specs)[-1].update(tag="somebody else's"),
        )
        with capture_logs() as logs:
            await until_synced(target, full_job(), MemoryJournal(), attempts=4)
    assert {
        (line["log_level"], line["model_id"])
        for line in lines(logs, "a model does not read back as it was written")
    } == {("error", 2)}


async def test_a_model_without_its_metadata_is_told() -> None:
    async with (
        nothing_left_behind(),
        ModelDbV1StandIn(mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=True) as target,
    ):
        journal = MemoryJournal()
        server.faults.die_after_row("Event")
        with pytest.raises(EdgeFault):
            await target.sync(full_job(), journal)
        await server.restart()
        with capture_logs() as logs:
            await target.sync(full_job(), journal)
    assert [
        (line["log_level"], line["model_id"])
        for line in lines(logs, "a model has no metadata and is left without")
    ] == [("warning", 1)]


async def test_a_model_found_by_trying_numbers_is_told() -> None:
    async with (
        nothing_left_behind(),
        ModelDbV1StandIn(metadata_store=False, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=False) as target,
    ):
        journal = MemoryJournal()
        await lose(target, server, "storeFitEvent", journal)
        add_models(server, 3)
        with capture_logs() as logs:
            await target.sync(full_job(), journal)
    [line] = lines(logs, "found the model of a run by trying numbers")
    assert (line["log_level"], line["model_id"]) == ("warning", 1)
