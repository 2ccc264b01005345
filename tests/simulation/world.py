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
from dataclasses import dataclass
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
from tests.simulation.plans import Shape
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
CHANCE_OF_DEAD_LETTERS = 0.85
QUIET_SECONDS = 320.0
"""So long a process must have had the checkpoint open before this vouches for anything."""
CHECKPOINT_AGE_SECONDS = 40_000.0
LOOK_BACK_SECONDS = 3600
MAX_RECEIVE_COUNT = 1000
"""Kills use up receives; what is to be seen here is whether anything else does."""


@dataclass
class Place:
    """One ModelDB, and the queue of the replicas that write to it.

    Attributes:
        dead_letters: of the queue; None: it has none.
    """

    target: str
    settings: Settings
    queue: SimulatedQueue
    dead_letters: SimulatedQueue | None
    v1: SimulatedModelDbV1
    v2: SimulatedModelDbV2

    def has(self, run: TrainingRun) -> bool:
        """Whether ModelDB has a run of the job."""
        if self.target == "modeldb-v1":
            return bool(runs_of(self.v1, run))
        return self.v2.has(run)


class World:
    """The world of one history.

    Args:
        seeded: for everything outside the daemon.
        target: modeldb-v2 or modeldb-v1.
        folder: for the checkpoint.
        shape: what there is.

    Attributes:
        lines: the history so far, for people.
        wrongs: what must not happen and has happened.
        outcomes: outcomes and reasons of each message, by its id.
        places: the ModelDB, and a second one in some histories. What is said of no place in
            particular is the first one's.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seeded: random.Random,
        target: str,
        folder: Path,
        shape: Shape | None = None,
    ) -> None:
        self.loop = loop
        self.random = seeded
        self.checkpoint = folder / "checkpoint.db"
        self.lines: list[str] = []
        self.wrongs: list[str] = []
        self.outcomes: dict[str, list[tuple[str, str]]] = {}
        self.replicas: list[Replica] = []
        self.is_calm = False
        self.is_over = False
        """Leftovers of crashed processes are being discarded; nothing about them is reported."""
        self.disk_seconds = DISK_SECONDS
        """The longest that a commit takes, twice."""
        self.disk_full = False
        self.disk_liar = 0.0
        """The chance that a commit reports a failure although it is durable."""
        shape = shape or Shape()
        self.network = SimulatedNetwork(loop, seeded, self.record)
        self.sagemaker = SimulatedSageMaker(seeded)
        self.old_checkpoint = seeded.random() < 0.5
        if shape.old_checkpoint is not None:
            self.old_checkpoint = shape.old_checkpoint
        first = self._place(shape, target, "jobs")
        self.places = [first]
        self.serving = first
        """That of new replicas."""
        if shape.other_place:
            shared = None if shape.own_queue else first
            self.places.append(self._place(shape, shape.other_place, "other", shared))
        queues = [
            queue
            for place in self.places
            for queue in (place.queue, place.dead_letters)
            if queue is not None
        ]
        self.sqs = SimulatedSqs(seeded, *queues)
        loop.set_exception_handler(self._unhandled)
        loop.disk_seconds = lambda: seeded.uniform(0, self.disk_seconds)
        self.quiet_seconds = 0.0
        """From the start of the replicas to the beginning, which is `START` on the wall clock."""
        if self.old_checkpoint:
            self.quiet_seconds = QUIET_SECONDS
            loop.wall_offset -= QUIET_SECONDS
            self._make_checkpoint_long_ago()

    def _make_checkpoint_long_ago(self) -> None:
        """The daemons began to use it so long ago that it vouches for what it does not know."""
        self.loop.wall_offset -= CHECKPOINT_AGE_SECONDS
        database = SimulatedDatabase(self, self.places[0])
        database.open()
        database.close()
        self.loop.wall_offset += CHECKPOINT_AGE_SECONDS

    def _place(self, shape: Shape, target: str, name: str, queue_of: Place | None = None) -> Place:
        seeded = self.random
        metadata_store = seeded.random() < 0.5
        if shape.metadata_store is not None:
            metadata_store = shape.metadata_store
        dead_letters: SimulatedQueue | None
        if queue_of is not None:
            queue, dead_letters = queue_of.queue, queue_of.dead_letters
        else:
            has_some = seeded.random() < CHANCE_OF_DEAD_LETTERS
            if shape.dead_letters is not None:
                has_some = shape.dead_letters
            dead_letters = SimulatedQueue(f"{name}-dlq", seeded) if has_some else None
            queue = SimulatedQueue(
                name,
                seeded,
                visibility_seconds=seeded.choice(VISIBILITY_SECONDS),
                max_receive_count=None if dead_letters is None else MAX_RECEIVE_COUNT,
                dead_letters=dead_letters,
            )
        settings = settings_of(
            target, self.checkpoint, queue=queue.name, host=name, metadata_store=metadata_store
        )
        v1 = SimulatedModelDbV1(
            seeded, self.loop.spawn, self.record, metadata_store=metadata_store, bounded=False
        )
        v2 = SimulatedModelDbV2(
            self.loop,
            seeded,
            self.record,
            timeout_seconds=TIMEOUT_SECONDS["modeldb-v2"],
            settle_seconds=SETTLE_SECONDS["modeldb-v2"],
        )
        return Place(target, settings, queue, dead_letters, v1, v2)

    @property
    def queue_places(self) -> list[Place]:
        """The place that serves each queue."""
        if len(self.places) > 1 and self.places[1].queue is not self.places[0].queue:
            return self.places
        return [self.serving]

    @property
    def target(self) -> str:
        return self.places[0].target

    @property
    def settings(self) -> Settings:
        return self.places[0].settings

    @property
    def queue(self) -> SimulatedQueue:
        return self.places[0].queue

    @property
    def v1(self) -> SimulatedModelDbV1:
        return self.places[0].v1

    @property
    def v2(self) -> SimulatedModelDbV2:
        return self.places[0].v2

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
            self.outcomes.setdefault(str(entry["message_id"]), []).append(
                (str(entry["outcome"]), str(entry["reason"]))
            )
            if entry["reason"] == Reason.INTERNAL_ERROR:
                self.wrong("a bug of the daemon's own: see its log above")
            if entry["reason"] not in REASONS[entry["outcome"]]:
                self.wrong(f"{entry['reason']} is no reason of {entry['outcome']}")
        elif entry.get("exc_info") is not None:
            self.wrong(f"the daemon failed: {entry.get('event')}: {entry.get('exc_info')!r}")

    def start_replica(self, name: str, place: Place | None = None) -> Replica:
        replica = Replica(self, name, place or self.serving)
        self.replicas.append(replica)
        self.record(f"{name} starts")
        return replica

    def new_name(self) -> str:
        """For the next replica."""
        return f"daemon-{len(self.replicas) + 1}"

    def calm(self) -> None:
        """Ends all faults."""
        if not self.is_calm:
            self.record("CALM: everything works from now on")
        self.is_calm = True
        self.disk_full, self.disk_liar, self.disk_seconds = False, 0.0, DISK_SECONDS
        self.network.chances, self.network.silent = {}, frozenset()
        self.sqs.faults.end()
        self.queue_behaves()
        self.sagemaker.faults.end()
        for place in self.places:
            place.v2.calm()
            place.v1.repair()

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

    @property
    def writer(self) -> Replica | None:
        """The living replica that holds the writer lease of a ModelDB V1."""
        for replica in self.living:
            keeper = None if replica.daemon is None else replica.daemon._writer
            if keeper is not None and keeper.holds:
                return replica
        return None

    @property
    def living(self) -> list[Replica]:
        return [
            replica
            for replica in self.replicas
            if not replica.process.dead and not replica.task.done()
        ]


class Replica:
    """One process of the daemon, from its start on."""

    def __init__(self, world: World, name: str, place: Place) -> None:
        self._world = world
        self.name = name
        self.place = place
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
            self.place.settings,
            SimulatedParts(world, self),
            jitter=random.Random(world.random.random()),
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
                    world.loop.call_later, 10.0, world.start_replica, world.new_name(), self.place
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
        self.place.v1.crash(self.process)
        self._ended()


class SimulatedDatabase(Database):
    """The real database, on a disk that can be full or lie, in a process that can be killed."""

    def __init__(self, world: World, place: Place) -> None:
        self._world = world
        super().__init__(world.checkpoint, place.settings.target.target_place, busy_seconds=0.0)

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
        database = self._replica.database = SimulatedDatabase(self._world, self._replica.place)
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
            SqsQueue(polling, acknowledging, self._replica.place.queue.url, observe=observe),
            SageMakerTrainingJobs(sagemaker, Home(ACCOUNT, REGION, "aws"), observe=observe),
        )

    def target(
        self, observe: Callable[[str, str], None], permit: Any
    ) -> ModelDBV1Target | ModelDbV2Target:
        place = self._replica.place
        settings = place.settings.target
        if isinstance(settings, ModelDbV1Settings):
            return ModelDBV1Target(
                partial(place.v1.connect, owner=self._replica.process, observe=observe),
                permit,
                server_id=settings.single_writer.server_id,
                metadata_store=settings.metadata_store,
                call_seconds=settings.timeout_seconds,
                settle_seconds=settings.settle_seconds,
            )
        assert isinstance(settings, ModelDbV2Settings)
        client = SimulatedClient(
            place.v2,
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


def settings_of(
    target: str, checkpoint: Path, *, queue: str, host: str, metadata_store: bool
) -> Settings:
    """Settings with the shortest allowed waiting times, so that more happens in a history."""
    sections: dict[str, dict[str, Any]] = {
        "modeldb-v2": {"kind": "modeldb-v2", "url": f"http://modeldb-{host}:8080/v1"},
        "modeldb-v1": {
            "kind": "modeldb-v1",
            "host": f"modeldb-{host}",
            "metadata_store": metadata_store,
        },
    }
    return Settings.model_validate(
        {
            "queue": {
                "url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{queue}",
                "retry": {"initial_seconds": 2, "max_seconds": 60},
                "wait_seconds": 20,
            },
            "target": sections[target]
            | {
                "timeout_seconds": TIMEOUT_SECONDS[target],
                "settle_seconds": SETTLE_SECONDS[target],
            },
            "checkpoint": {"path": str(checkpoint)},
            "reconcile": {"look_back_seconds": LOOK_BACK_SECONDS},
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
