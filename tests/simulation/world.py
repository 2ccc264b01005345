"""The whole simulation: SQS, SageMaker, the target, a disk, and replicas of the real daemon.

The daemon is `daemon.app.Daemon`, with the adapters to the outside replaced through
`daemon.wiring.Parts`: the AWS clients, the connections to the target, the clocks. The checkpoint is
the real one on a real SQLite file, whose thread runs in virtual time; or the one of several hosts
(`Shape.hosts`) in a simulated table (`tests.simulation.hosts`).
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
from daemon.aws.account_jobs import AccountTrainingJobs
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.checkpoint.sqlite.database import Database
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.config.settings import ReconcileSettings, Settings
from daemon.errors import EdgeFault, SetupFault
from daemon.outcome import REASONS
from daemon.reasons import Edge, Reason
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.mlflow.target import MlflowTarget
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v1.target import ModelDBV1Target
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.modeldb_v2.target import ModelDbV2Target
from daemon.training_job.identity import Home
from tests.simulation import mlflow_server
from tests.simulation.hosts import Hosts
from tests.simulation.jobs import ACCOUNT, MEMBER, REGION
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.mlflow_server import SimulatedMlflow
from tests.simulation.modeldb_v1_server import SimulatedModelDbV1
from tests.simulation.modeldb_v2_server import SimulatedClient, SimulatedModelDbV2
from tests.simulation.network import SimulatedNetwork
from tests.simulation.plans import Shape
from tests.simulation.sagemaker import LIST_RATE, SimulatedSageMaker, SimulatedSageMakerClient
from tests.simulation.sqs import SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_queue import Chances, SimulatedQueue
from tests.support.modeldb_v1_target import runs_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import Checkpoint
    from daemon.checkpoint.sqlite.database import Answer, Operation
    from daemon.training_job.training_run import TrainingRun
    from tests.simulation.http_server import SimulatedHttpServer

DISK_SECONDS = 0.005
VISIBILITY_SECONDS = (12, 30, 30, 30)
"""One of them, by chance; the shorter one brings a message back while a create of it may still be
carried out."""
TIMEOUT_SECONDS = {"modeldb-v2": 10.0, "modeldb-v1": 31.0, "mlflow": 10.0}
SETTLE_SECONDS = {"modeldb-v2": 20.0, "modeldb-v1": 5.0, "mlflow": 20.0}
CHANCE_OF_DEAD_LETTERS = 0.85
QUIET_SECONDS = 320.0
"""So long a process must have had the checkpoint open before this vouches for anything."""
CHECKPOINT_AGE_SECONDS = 40_000.0
LOOK_BACK_SECONDS = 3600
RECONCILE = ReconcileSettings(every_seconds=120, look_back_seconds=30_000)
END_SECONDS = 60
"""How long a process may take to end after it was told to."""
MAX_RECEIVE_COUNT = 1000
"""Kills use up receives; what is to be seen here is whether anything else does."""


@dataclass
class Place:
    """One server of a target, and the queue of the replicas that write to it.

    Attributes:
        dead_letters: of the queue; None: it has none.
    """

    target: str
    settings: Settings
    queue: SimulatedQueue
    dead_letters: SimulatedQueue | None
    v1: SimulatedModelDbV1
    v2: SimulatedModelDbV2
    mlflow: SimulatedMlflow | None

    @property
    def http(self) -> SimulatedHttpServer:
        """The server, if it is not ModelDB V1."""
        return self.mlflow or self.v2

    def has(self, run: TrainingRun) -> bool:
        """Whether the target has a run of the job."""
        if self.target == "modeldb-v1":
            return bool(runs_of(self.v1, run))
        return self.http.has(run)

    def wrong(self, runs: Sequence[TrainingRun]) -> list[str]:
        """What is not as it should be if these runs and no others are to be there."""
        return self.v1.wrong(runs) if self.target == "modeldb-v1" else self.http.wrong(runs)


class World:
    """The world of one history.

    Args:
        seeded: for everything outside the daemon.
        target: its kind, such as mlflow.
        folder: for the checkpoint.
        shape: what there is.

    Attributes:
        lines: the history so far, for people.
        wrongs: what must not happen and has happened.
        outcomes: outcomes and reasons of each message, by its id.
        listeners: told of each line of a daemon's log, and which process wrote it.
        places: the target, and a second one in some histories. What is said of no place in
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
        self.listeners: list[Callable[[Process | None, Mapping[str, Any]], None]] = []
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
        self.hosts = Hosts(loop, seeded, self.record, self.wrong) if shape.hosts else None
        self.sagemaker = SimulatedSageMaker(seeded)
        self.members = {MEMBER: SimulatedSageMaker(seeded)} if shape.accounts else {}
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
        if self.hosts is not None:
            for place in self.places:
                self.loop.run_until_complete(
                    self.hosts.use_once(place.settings.target.target_place)
                )
        else:
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
        if shape.accounts:
            few = settings.queue.model_copy(update={"max_in_flight": 5})
            settings = settings.model_copy(update={"queue": few})
        if shape.reconcile:
            settings = settings.model_copy(update={"reconcile": RECONCILE})
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
        mlflow = None
        if target == "mlflow":
            mlflow = SimulatedMlflow(
                self.loop,
                seeded,
                self.record,
                timeout_seconds=TIMEOUT_SECONDS[target],
                settle_seconds=SETTLE_SECONDS[target],
            )
        return Place(target, settings, queue, dead_letters, v1, v2, mlflow)

    @property
    def queue_places(self) -> list[Place]:
        """The place that serves each queue."""
        if len(self.places) > 1 and self.places[1].queue is not self.places[0].queue:
            return self.places
        return [self.serving]

    def sagemaker_of(self, account: str) -> SimulatedSageMaker:
        """That of an account."""
        return self.members.get(account, self.sagemaker)

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

    @property
    def http(self) -> SimulatedHttpServer:
        return self.places[0].http

    @property
    def mlflow(self) -> SimulatedMlflow:
        server = self.places[0].mlflow
        assert server is not None
        return server

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
        for listener in self.listeners:
            listener(process, entry)
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

    def open_database(self) -> SimulatedDatabase:
        """The checkpoint, for a process that is no daemon."""
        return SimulatedDatabase(self, self.places[0])

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
        if self.hosts is not None:
            self.hosts.calm()
            for replica in self.living:
                replica.wake()
        for sagemaker in (self.sagemaker, *self.members.values()):
            sagemaker.faults.end()
        self.sagemaker.list_rate = LIST_RATE
        for place in self.places:
            place.http.calm()
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
        self.is_open = False
        """It has opened the checkpoint."""
        self.database: SimulatedDatabase | None = None
        hosts = world.hosts
        self.process = Process(
            name, self._crashed, clock=None if hosts is None else hosts.new_clock()
        )
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
        # the disk may be full right at the start, or the table away: whatever runs the container
        # starts it again
        except (SetupFault, EdgeFault) as fault:
            if isinstance(fault, EdgeFault) and (self.is_open or world.hosts is None):
                world.wrong(f"{self.name} ended by itself: {fault!r}")
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
        """Same effect as SIGTERM. One that is paused gets it when it is woken."""
        self.stopping = True
        self._world.record(f"{self.name}: SIGTERM")
        if self.daemon is not None and not self.process.is_paused:
            self._world.loop.outside(self.daemon.stop)

    async def end_in_time(self) -> None:
        """Waits for its end; it is wrong if that does not come within 60 s, those not counted in
        which it is paused.
        """
        awake = 0
        while not self.gone.done() and awake < END_SECONDS:
            awake += not self.process.is_paused
            await asyncio.wait([self.gone], timeout=1)
        if not self.gone.done():
            self._world.wrong(f"{self.name} has not ended within {END_SECONDS} s")

    def pause(self) -> None:
        """Same effect as SIGSTOP."""
        self._world.record(f"{self.name}: PAUSED after {self.process.steps} steps")
        self.process.pause()

    def wake(self) -> None:
        """Same effect as SIGCONT."""
        if not self.process.is_paused:
            return
        self._world.record(f"{self.name} wakes")
        self.process.wake(self._world.loop)
        if self.stopping and self.daemon is not None:
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
        if self._world.hosts is not None:
            self._world.hosts.gone(self.process)
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

    async def checkpoint(self, observe: Callable[..., None]) -> Checkpoint:
        if self._world.hosts is not None:
            target = self._replica.place.settings.target.target_place
            opened = await self._world.hosts.open_checkpoint(target, self._replica.process)
            self._replica.is_open = True
            return opened
        database = self._replica.database = SimulatedDatabase(self._world, self._replica.place)
        commits = GroupCommit(database)
        await commits.open()
        self._replica.is_open = True
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
        listing: Any = SimulatedSageMakerClient(world.sagemaker, world.network, attempts=1)
        yield (
            SqsQueue(polling, acknowledging, self._replica.place.queue.url, observe=observe),
            SageMakerTrainingJobs(
                sagemaker,
                Home(ACCOUNT, REGION, "aws"),
                listing=listing,
                elsewhere=self._elsewhere(observe),
                observe=observe,
            ),
        )

    def _elsewhere(self, observe: Callable[..., None]) -> dict[str, AccountTrainingJobs]:
        found = {}
        for account, service in self._world.members.items():
            client: Any = SimulatedSageMakerClient(service, self._world.network)
            where = f"{account}/{REGION}"
            jobs = SageMakerTrainingJobs(
                client, Home(account, REGION, "aws", confirmed=True), observe=observe
            )
            found[where] = AccountTrainingJobs(jobs, where)
        return found

    def target(
        self, observe: Callable[[str, str], None], permit: Any
    ) -> ModelDBV1Target | ModelDbV2Target | MlflowTarget:
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
        if isinstance(settings, MlflowSettings):
            assert place.mlflow is not None
            return MlflowTarget(
                mlflow_server.SimulatedClient(
                    place.mlflow,
                    timeout_seconds=settings.timeout_seconds,
                    max_concurrency=settings.max_concurrency,
                    observe=observe,
                ),
                settle_seconds=settings.settle_seconds,
                suffix=lambda: f"{self._world.random.getrandbits(32):08x}",
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
        "mlflow": {"kind": "mlflow", "tracking_uri": f"http://mlflow-{host}:5000"},
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
            "reconcile": {"look_back_seconds": LOOK_BACK_SECONDS, "every_seconds": 0},
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
