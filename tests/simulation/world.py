"""The whole simulation: SQS, SageMaker, ModelDB, a disk, and replicas of the real daemon.

The daemon is `daemon.app.Daemon`, with the adapters to the outside replaced through
`daemon.wiring.Parts`: the AWS clients, the connections to ModelDB, the clocks. The checkpoint is
the real one on a real SQLite file, whose thread runs in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from daemon.app import Daemon
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.checkpoint.sqlite.database import Database
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.config.settings import Settings
from daemon.errors import EdgeFault, SetupFault
from daemon.outcome import REASONS
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v1.target import ModelDBV1Target
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.modeldb_v2.target import ModelDbV2Target
from daemon.training_job.identity import Home
from tests.simulation.jobs import ACCOUNT, REGION
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.modeldb_v1_server import SimulatedModelDbV1
from tests.simulation.modeldb_v2_server import SimulatedClient, SimulatedModelDbV2
from tests.simulation.network import SimulatedNetwork
from tests.simulation.sagemaker import SimulatedSageMaker, SimulatedSageMakerClient
from tests.simulation.sqs import SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_queue import Chances, SimulatedQueue
from tests.support.modeldb_v1_target import runs_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import Checkpoint
    from daemon.checkpoint.sqlite.database import Answer, Operation
    from daemon.training_job.training_run import TrainingRun

DISK_SECONDS = 0.005
VISIBILITY_SECONDS = (12, 30, 30, 30)
"""One of them, by chance; the shorter one brings a message back while a create of it may still be
carried out."""
TIMEOUT_SECONDS = {"modeldb-v2": 10.0, "modeldb-v1": 31.0}
SETTLE_SECONDS = {"modeldb-v2": 20.0, "modeldb-v1": 5.0}
MAX_RECEIVE_COUNT = 1000
"""Kills use up receives; what is to be seen here is whether anything else does."""


class World:
    """The world of one history.

    Args:
        seeded: for everything outside the daemon.
        target: modeldb-v2 or modeldb-v1.
        folder: for the checkpoint.

    Attributes:
        lines: the history so far, for people.
        wrongs: what must not happen and has happened.
    """

    def __init__(self, loop: VirtualLoop, seeded: random.Random, target: str, folder: Path) -> None:
        self.loop = loop
        self.random = seeded
        self.target = target
        self.checkpoint = folder / "checkpoint.db"
        self.lines: list[str] = []
        self.wrongs: list[str] = []
        self.replicas: list[Replica] = []
        self.is_calm = False
        self.is_over = False
        """Leftovers of crashed processes are being discarded; nothing about them is reported."""
        self.disk_seconds = DISK_SECONDS
        """The longest that a commit takes, twice."""
        self.disk_full = False
        self.disk_liar = 0.0
        """The chance that a commit reports a failure although it is durable."""
        metadata_store = seeded.random() < 0.5
        self.settings = settings_of(target, self.checkpoint, metadata_store=metadata_store)
        self.dead_letters = SimulatedQueue("jobs-dlq", seeded)
        self.queue = SimulatedQueue(
            "jobs",
            seeded,
            visibility_seconds=seeded.choice(VISIBILITY_SECONDS),
            max_receive_count=MAX_RECEIVE_COUNT,
            dead_letters=self.dead_letters,
        )
        self.sqs = SimulatedSqs(seeded, self.queue, self.dead_letters)
        self.network = SimulatedNetwork(loop, seeded, self.record)
        self.sagemaker = SimulatedSageMaker(seeded)
        self.v1 = SimulatedModelDbV1(
            seeded, loop.spawn, self.record, metadata_store=metadata_store, bounded=False
        )
        self.v2 = SimulatedModelDbV2(
            loop,
            seeded,
            self.record,
            timeout_seconds=TIMEOUT_SECONDS["modeldb-v2"],
            settle_seconds=SETTLE_SECONDS["modeldb-v2"],
        )
        loop.set_exception_handler(self._unhandled)
        loop.disk_seconds = lambda: seeded.uniform(0, self.disk_seconds)

    def record(self, line: str) -> None:
        if self.is_over:
            return
        self.lines.append(f"{self.loop.time():10.3f}  {line}")

    def wrong(self, what: str) -> None:
        """Records a violation."""
        if self.is_over:
            return
        self.record(f"WRONG: {what}")
        self.wrongs.append(what)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.wrong(f"nobody handled: {context.get('message')}: {error!r}")

    def logged(self, entry: Mapping[str, Any]) -> None:
        """A line of a daemon's log."""
        process = Process.current()
        fields = " ".join(
            f"{name}={value}"
            for name, value in entry.items()
            if name not in {"event", "level", "exc_info", "settings"}
        )
        self.record(
            f"{process.name if process is not None else '?'}: {entry.get('event')} {fields}"
        )
        if entry.get("event") == "job outcome":
            if entry["reason"] == Reason.INTERNAL_ERROR:
                self.wrong("a bug of the daemon's own: see its log above")
            if entry["reason"] not in REASONS[entry["outcome"]]:
                self.wrong(f"{entry['reason']} is no reason of {entry['outcome']}")
        elif entry.get("exc_info") is not None:
            self.wrong(f"the daemon failed: {entry.get('event')}: {entry.get('exc_info')!r}")

    def start_replica(self, name: str) -> Replica:
        replica = Replica(self, name)
        self.replicas.append(replica)
        self.record(f"{name} starts")
        return replica

    def new_name(self) -> str:
        """For the next replica."""
        return f"daemon-{len(self.replicas) + 1}"

    def has(self, run: TrainingRun) -> bool:
        """Whether ModelDB has a run of the job."""
        if self.target == "modeldb-v1":
            return bool(runs_of(self.v1, run))
        return self.v2.has(run)

    def calm(self) -> None:
        """Ends all faults."""
        if not self.is_calm:
            self.record("CALM: everything works from now on")
        self.is_calm = True
        self.disk_full, self.disk_liar, self.disk_seconds = False, 0.0, DISK_SECONDS
        self.network.chances = {}
        self.sqs.faults.down = self.sqs.faults.credentials_expired = False
        self.sqs.faults.throttled = self.sqs.faults.failing = 0.0
        self.queue_behaves()
        self.sagemaker_works()
        self.v2.calm()
        self.v1.repair()

    def end(self) -> None:
        """Throws away what is left of crashed processes: nothing that happens from now on
        counts.
        """
        self.is_over = True
        for replica in self.replicas:
            if replica.database is not None:
                replica.database.vanish()
        self.loop.end()

    def queue_behaves(self) -> None:
        """Nothing that SQS may do but need not."""
        self.queue.chances = Chances(old_handle_deletes=self.queue.chances.old_handle_deletes)

    def sagemaker_works(self) -> None:
        faults = self.sagemaker.faults
        faults.down = faults.credentials_expired = False
        faults.throttled = faults.failing = 0.0

    @property
    def living(self) -> list[Replica]:
        return [
            replica
            for replica in self.replicas
            if not replica.process.dead and not replica.task.done()
        ]


class Replica:
    """One process of the daemon, from its start on."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.stopping = False
        self.database: SimulatedDatabase | None = None
        self.process = Process(name, self._crashed)
        self.daemon: Daemon | None = None
        self.gone: asyncio.Future[None] = world.loop.create_future()
        """Done when the process has ended, however."""
        self.task = world.loop.start(self.process, self._run(), name=name)
        self.task.add_done_callback(self._ended, context=contextvars.Context())

    async def _run(self) -> None:
        world = self._world
        self.daemon = Daemon(
            world.settings, SimulatedParts(world, self), jitter=random.Random(world.random.random())
        )
        try:
            await self.daemon.run()
        except asyncio.CancelledError:
            world.record(f"{self.name} was cancelled")
        # the disk may be full right at the start: whatever runs the container starts it again
        except SetupFault as fault:
            world.record(f"{self.name} ended with status 2: {fault}")
            if not self.stopping:
                world.loop.outside(
                    world.loop.call_later, 10.0, world.start_replica, world.new_name()
                )
        except Exception as error:  # noqa: BLE001 - the only thing that may end it is us
            world.wrong(f"{self.name} ended by itself: {error!r}")
        else:
            if not self.stopping:
                world.wrong(f"{self.name} ended by itself")
        left = len(self.daemon._in_flight)
        if left:
            world.wrong(f"{self.name} ended with {left} messages in its ledger")

    def crash(self) -> None:
        """Same effect as ``kill -9``."""
        self.process.crash()

    def stop(self) -> None:
        """Same effect as SIGTERM."""
        self.stopping = True
        self._world.record(f"{self.name}: SIGTERM")
        if self.daemon is not None:
            self._world.loop.outside(self.daemon.stop)

    def cancel(self) -> None:
        """Cancels its one task."""
        self.stopping = True
        self._world.record(f"{self.name} is cancelled")
        self.task.cancel()

    def _ended(self, _task: asyncio.Task[None] | None = None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _crashed(self) -> None:
        self._world.record(f"{self.name}: KILLED after {self.process.steps - 1} steps")
        if self.database is not None:
            self.database.vanish()
        self._world.v1.crash(self.process)
        self._ended()


class SimulatedDatabase(Database):
    """The real database, on a disk that can be full or lie, in a process that can be killed."""

    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__(world.checkpoint, world.settings.target.target_place, busy_seconds=0.0)

    def apply(self, operations: Sequence[Operation[Any]]) -> list[Answer]:
        if self._world.disk_full:
            self._give_up()
            raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "the disk is full")
        answers = super().apply(operations)
        if self._world.disk_liar and self._world.random.random() < self._world.disk_liar:
            self._world.record("disk: an error although the commit is durable")
            self._give_up()
            raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "I/O error")
        return answers

    def vanish(self) -> None:
        """Closes the files of a killed process and frees its locks, as the kernel does."""
        self._give_up()
        if self._owners is not None:
            self._owners.leave(claims_released=False)
            self._owners = None


class SimulatedParts:
    """A `daemon.wiring.Parts`."""

    def __init__(self, world: World, replica: Replica) -> None:
        self._world = world
        self._replica = replica

    async def checkpoint(self) -> Checkpoint:
        database = self._replica.database = SimulatedDatabase(self._world)
        commits = GroupCommit(database)
        await commits.open()
        return SqliteCheckpoint(database, commits)

    @contextlib.asynccontextmanager
    async def aws(
        self, observe: Callable[..., None]
    ) -> AsyncIterator[tuple[SqsQueue, SageMakerTrainingJobs]]:
        world, name = self._world, self._replica.name
        client = SimulatedSqsClient(world.sqs, world.network, world.loop.spawn, name=name)
        polling: Any = SimulatedSqsClient(
            world.sqs, world.network, world.loop.spawn, name=name, attempts=1, read_seconds=35.0
        )
        acknowledging: Any = client
        sagemaker: Any = SimulatedSageMakerClient(world.sagemaker, world.network)
        yield (
            SqsQueue(polling, acknowledging, world.queue.url, observe=observe),
            SageMakerTrainingJobs(sagemaker, Home(ACCOUNT, REGION, "aws"), observe=observe),
        )

    def target(
        self, observe: Callable[[str, str], None], permit: Any
    ) -> ModelDBV1Target | ModelDbV2Target:
        settings = self._world.settings.target
        if isinstance(settings, ModelDbV1Settings):
            return ModelDBV1Target(
                partial(self._world.v1.connect, owner=self._replica.process, observe=observe),
                permit,
                server_id=settings.single_writer.server_id,
                metadata_store=settings.metadata_store,
                call_seconds=settings.timeout_seconds,
                settle_seconds=settings.settle_seconds,
            )
        assert isinstance(settings, ModelDbV2Settings)
        client = SimulatedClient(
            self._world.v2,
            timeout_seconds=settings.timeout_seconds,
            max_concurrency=settings.max_concurrency,
            observe=observe,
        )
        return ModelDbV2Target(client, settle_seconds=settings.settle_seconds)

    async def http(self, **_more: object) -> Any:
        return _NoHttp()


class _NoHttp:
    port = 0

    async def aclose(self) -> None:
        """Nothing listens."""


def settings_of(target: str, checkpoint: Path, *, metadata_store: bool) -> Settings:
    """Settings with the shortest allowed waiting times, so that more happens in a history."""
    sections: dict[str, dict[str, Any]] = {
        "modeldb-v2": {"kind": "modeldb-v2", "url": "http://modeldb:8080/v1"},
        "modeldb-v1": {"kind": "modeldb-v1", "host": "modeldb", "metadata_store": metadata_store},
    }
    return Settings.model_validate(
        {
            "queue": {
                "url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/jobs",
                "retry": {"initial_seconds": 2, "max_seconds": 60},
                "wait_seconds": 20,
            },
            "target": sections[target]
            | {
                "timeout_seconds": TIMEOUT_SECONDS[target],
                "settle_seconds": SETTLE_SECONDS[target],
            },
            "checkpoint": {"path": str(checkpoint)},
            "log": {"format": "json"},
        }
    )


@contextlib.contextmanager
def logs_into(world: World) -> Any:
    """Sends the log of the daemons into the history."""

    def keep(_logger: object, level: str, entry: Any) -> Any:
        world.logged({"level": level, **entry})
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.reset_defaults()
