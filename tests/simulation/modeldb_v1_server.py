"""ModelDB V1 for the simulation: the demo's stand-in behind in-memory connections, with the race of
the real server.

The calls are the stand-in's own code, which passes the recorded exchanges. This module adds
connections, time and chance, as observed on the real server:

* Calls of one connection are carried out strictly in order, those of different connections
  concurrently.
* Two connections that write at the same time get each other's rows. Each overlap of two writing
  calls is one of the `violations`, and one of the two may get the damage of the stand-in's
  `foreign_writer`.
* A connection whose client has gone still writes for a while: the current call is finished, and
  some of the calls behind it are carried out too.
* A server that dies during a call leaves the rows that were stored by then.

Unlike the real server, it stores a call's rows in one moment at a random point of the call, so that
readers never see half a call unless the server died in it; and it serves any number of connections.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thriftpy2.thrift import TException

from daemon.demo.modeldb_v1.dispatch import Backend, refusal
from daemon.demo.modeldb_v1.frames import BrokenMessageError
from daemon.demo.modeldb_v1.metadata import Documents
from daemon.demo.modeldb_v1.store import ServerError, Store
from daemon.demo.modeldb_v1.writes import STORING, ConnectionBrokenError
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from tests.simulation.modeldb_v1_session import LENGTH, Session
from tests.simulation.modeldb_v1_work import Work, writes
from tests.support.modeldb_v1_stand_in import InjectedFaults, ServerDiedError, Step
from tests.support.modeldb_v1_target import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from random import Random

    from daemon.demo.modeldb_v1.store import Row, Table
    from daemon.targets.modeldb_v1.codec import Call
    from daemon.training_job.training_run import TrainingRun

ADDRESS = "modeldb-v1:6543"
NETWORK_SECONDS = (0.0002, 0.01)
READ_SECONDS = (0.0002, 0.005)
WRITE_SECONDS = (0.001, 0.03)
LAST_COMMIT_SECONDS = 0.005
"""For how long a call still counts as writing after its rows are there, at most."""
LONGEST_DELAY_SECONDS = 0.5
CHANCE_OF_DELAY = 0.01
MOST_ROWS = 12
"""Aborted or colliding calls are hit at one of their first rows, of at most this many."""

_GARBAGE = LENGTH.pack(24) + b"HTTP/1.1 400 Bad Request"


class SimulatedModelDbV1:
    """The server, up at first. `faults` is the stand-in's whole switchboard; all of it but its
    start works here, too.

    Args:
        random: decides everything.
        spawn: starts a task of the server's.
        record: takes lines for a readable history.
        metadata_store: False: the server has no MongoDB.
        linger_seconds: how long at most a connection whose client has gone is written on, counted
            from when the server notices that, at most `LONGEST_DELAY_SECONDS` after it happened.
        bounded: False: calls of a client that has gone also outlast that: those that were frozen
            with the server, and those behind one that waits for MongoDB. So does the real server.
    """

    def __init__(
        self,
        random: Random,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        record: Callable[[str], None],
        *,
        metadata_store: bool,
        linger_seconds: float = 3.0,
        bounded: bool = True,
    ) -> None:
        self.random = random
        self.metadata_store = metadata_store
        self.linger_seconds = linger_seconds
        self.bounded = bounded
        self.chance_of_slow_write = 0.0
        """That a writing call takes longer than its client waits."""
        self.chance_of_damage = 0.7
        """That one of two calls that write at once gets the other's rows."""
        self.store = Store()
        self._documents = Documents()
        self.faults = InjectedFaults(
            self.store,
            has_mongo=metadata_store,
            mongo_timeout_seconds=30.0,
            storage_busy_seconds=3.0,
        )
        self.violations: list[str] = []
        """What must never happen, whatever the faults are."""
        self.counts: Counter[str] = Counter()
        """What has happened, by its name in the history."""
        self.calls: Counter[str] = Counter()
        """Calls that were carried out, by method."""
        self.without_document: set[int] = set()
        """Runs with a fit whose document could not be stored, or not before the server died. The
        daemon adds it only where it has read and noted the answer; otherwise it leaves the model
        without, on purpose."""
        self.up = True
        self._backend = Backend(self.store, self._documents, self.faults)
        self._read_back, self.store.read_back = self.store.read_back, self._row_stored
        self._spawn = spawn
        self._record = record
        self._sessions: dict[Session, None] = {}
        self._served = 0
        self._writing: dict[Work, None] = {}
        self._storing: Work | None = None
        self._die_next: float | None = None
        self._thaw_at = 0.0

    # --- what a client sees -----------------------------------------------------------------------

    async def connect(
        self,
        *,
        owner: object = None,
        call_seconds: float = 45.0,
        may_send: Callable[[], bool] = lambda: True,
        observe: Callable[[str, str], None] = lambda _method, _result: None,
    ) -> Connection:
        """Same interface as `Connection.open` with an address.

        Args:
            owner: the simulated process, for `crash`.
            call_seconds: as there.
            may_send: as there.
            observe: as there.

        Raises:
            CallFailed: the server is down.
        """
        try:
            reader, writer = await self.open_streams(owner=owner, call_seconds=call_seconds)
        except OSError as error:
            raise CallFailed(
                CallErrorKind.UNREACHABLE, "connect", f"{ADDRESS}: Connection refused", sent=False
            ) from error
        return Connection(
            reader, writer, ADDRESS, call_seconds=call_seconds, may_send=may_send, observe=observe
        )

    async def open_streams(
        self, *, owner: object = None, call_seconds: float = 45.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection; raises ConnectionRefusedError when the server is down."""
        await asyncio.sleep(self.network_delay())
        if not self.up:
            self.counts["refused"] += 1
            raise ConnectionRefusedError
        self._served += 1
        session = Session(self._served, self, owner, call_seconds)
        self._sessions[session] = None
        session.task = self._spawn(self._serve(session))
        self._tell(f"connection {session.number} opened")
        return session.wire.reader, session.wire.writer

    def crash(self, owner: object) -> None:
        """A client's process is gone, without a word: to be called when it is. What it had sent may
        still be carried out.
        """
        for session in [session for session in self._sessions if session.owner is owner]:
            session.wire.vanish()

    def stall(self, owner: object, seconds: float) -> None:
        """Nothing of what a client sends from now on arrives before so many seconds have passed."""
        self._fault(f"network stalled for {seconds:.1f} s")
        until = asyncio.get_running_loop().time() + seconds
        for session in [session for session in self._sessions if session.owner is owner]:
            session.wire.stalled_until = until

    def network_delay(self) -> float:
        if self.random.random() < CHANCE_OF_DELAY:
            return self.random.uniform(NETWORK_SECONDS[0], LONGEST_DELAY_SECONDS)
        return self.random.uniform(*NETWORK_SECONDS)

    # --- faults -----------------------------------------------------------------------------------

    def go_down(self) -> None:
        """Kills the server, possibly during a call. Its rows stay."""
        if self.up:
            self._fault("down")
            for work in list(self._writing):
                if not work.stored and self.random.random() < 0.5:
                    self._break_off(work)
            self._die()

    def come_back(self) -> None:
        """Clients can connect again."""
        if not self.up:
            self._fault("back")
            self.up = True

    def restart(self, seconds: float = 1.0) -> None:
        """Goes down and comes back after some seconds."""
        self.go_down()
        asyncio.get_running_loop().call_later(seconds, self.come_back)

    def die_in_next_write(self, back_after_seconds: float = 1.0) -> None:
        """In the next writing call, after one of its rows; not at all if it stores none."""
        self._die_next = back_after_seconds

    def lose_next_answer(self, method: str | None = None) -> None:
        """Of the next writing call (or of the next call of a method), which is carried out: the
        connection closes instead.
        """

        def due(call: Call) -> bool:
            if method is None and not writes(call):
                return False
            self._fault(f"the answer to {call.method} is lost")
            self.counts["answer lost"] += 1
            return True

        self.faults.drop_before_answer(method=method, when=due)

    def reset_connections(self) -> None:
        """All of them. What was read is carried out as after a client has gone."""
        self._fault("connections reset")
        for session in list(self._sessions):
            session.wire.reset()

    def freeze(self, seconds: float) -> None:
        """Accepts connections, but carries out and answers nothing."""
        self._fault("frozen")
        loop = asyncio.get_running_loop()
        self._thaw_at = max(self._thaw_at, loop.time() + seconds)
        self.faults.freeze()
        loop.call_at(self._thaw_at, self._thaw, self._thaw_at)

    @property
    def mongo_down(self) -> bool:
        return self.faults.mongo_down

    @mongo_down.setter
    def mongo_down(self, down: bool) -> None:
        self._fault(f"MongoDB {'down' if down else 'back'}")
        self.faults.mongo_down = down

    def mongo_goes(self, *, noticed: bool) -> None:
        """MongoDB goes down.

        Args:
            noticed: the server knows already: also the first call that needs MongoDB waits for it.
        """
        self.mongo_down = True
        self.faults._mongo_noticed = noticed or self.faults._mongo_noticed

    @property
    def storage_busy(self) -> bool:
        return self.faults.storage_busy

    @storage_busy.setter
    def storage_busy(self, busy: bool) -> None:
        self._fault(f"storage {'busy' if busy else 'free'}")
        self.faults.storage_busy = busy

    def repair(self) -> None:
        """Ends all faults, for the end of a history."""
        self.faults.clear()
        self.chance_of_slow_write = 0.0
        self._die_next = None
        self.come_back()

    # --- what is stored ---------------------------------------------------------------------------

    @property
    def runs(self) -> list[Row]:
        """Copies of the rows."""
        return [dict(row) for row in self.store.runs]

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What is in MongoDB, oldest first."""
        return list(self._documents)

    @property
    def open_connections(self) -> int:
        """How many are served, those included whose client has gone."""
        return len(self._sessions)

    def wrong(self, jobs: Sequence[TrainingRun], *, documents_needed: bool = False) -> list[str]:
        """What is not as it should be, as `tests.support.modeldb_v1_target.wrong` says; [] when
        each job has exactly one complete run.

        Args:
            jobs: all that are to be there, and no others.
            documents_needed: also of the runs in `without_document`.
        """
        excused = set[int]() if documents_needed else self.without_document
        return wrong(self, jobs, metadata_store=self.metadata_store, without_document=excused)

    # --- the inside -------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        self._record(f"modeldb-v1: {text}")

    def _fault(self, name: str) -> None:
        self.counts[name] += 1
        self._tell(f"FAULT {name}")

    def _thaw(self, due: float) -> None:
        # not the time now: a loop's timers may be early by its clock's resolution
        if self.faults.frozen and due == self._thaw_at:
            self.faults.thaw()
            self._tell("thawed")

    def _die(self) -> None:
        self.up = False
        current = asyncio.current_task()
        for session in list(self._sessions):
            session.wire.die()
            if session.task is not current:
                session.task.cancel()
        self._sessions.clear()
        self._writing.clear()

    async def _serve(self, session: Session) -> None:
        try:
            while (call := await session.next_call()) is not None:
                if session.last is not None and not self._goes_on(session):
                    break
                if not await self._take(call, session):
                    break
        except (BrokenMessageError, ConnectionBrokenError):
            pass  # the connection ends, and the client hears nothing
        except ServerDiedError:
            self._fault("died in a call")
            self._die()
        finally:
            session.wire.close()
            self._sessions.pop(session, None)
            self._tell(f"connection {session.number} ended")

    def _goes_on(self, session: Session) -> bool:
        """Whether the next call of a client that has gone is carried out."""
        assert session.last is not None
        if self.bounded and asyncio.get_running_loop().time() >= session.last:
            return False
        if self.random.random() < 0.5:
            return False
        self.counts["carried out for nobody"] += 1
        return True

    async def _thawed(self, session: Session) -> None:
        if self.faults.frozen and (session.last is None or not self.bounded):
            await session.thaw(self._spawn(self.faults.thawed()))
            if session.last is not None:
                session.linger()

    async def _take(self, call: Call, session: Session) -> bool:
        """One call from its arrival to its answer; False: the connection is to be closed."""
        await self._thawed(session)
        due = self.faults.take(call)
        if Step.HOLD_FIRST in due:
            await due[Step.HOLD_FIRST].hold.pause()
        if Step.DROP_FIRST in due:
            return False
        if Step.WRONG_SEQUENCE_ID in due:
            call = replace(call, sequence_id=call.sequence_id ^ 1)
        if Step.REFUSE in due:
            answer = refusal(call, due[Step.REFUSE].exception)
        else:
            answer = await self._carry_out(Work(session, call))
        if Step.HOLD_ANSWER in due:
            await due[Step.HOLD_ANSWER].hold.pause()
        await self._thawed(session)
        if Step.DROP_ANSWER in due:
            return False
        frame = _GARBAGE if Step.GARBAGE_ANSWER in due else LENGTH.pack(len(answer)) + answer
        if Step.HALF_ANSWER in due:
            session.wire.send(frame[: len(frame) // 2])
            return False
        session.wire.send(frame)
        return True

    async def _carry_out(self, work: Work) -> bytes:
        session, storing = work.session, writes(work.call)
        before, after = self._durations(work)
        if storing:
            self._begin_write(work)
        try:
            await session.spend(before)
            await self._thawed(session)
            if storing:
                asyncio.get_running_loop().call_later(
                    self.random.uniform(0.0, LAST_COMMIT_SECONDS), self._writing.pop, work, None
                )
            answer = await self._answer(work)
            await session.spend(after)
            return answer
        finally:
            if not work.stored:
                self._writing.pop(work, None)

    async def _answer(self, work: Work) -> bytes:
        """From here to the first await that suspends, all rows of the call are stored, and no other
        call's.
        """
        if self._die_next is not None and writes(work.call) and not self.faults.storage_busy:
            asyncio.get_running_loop().call_later(self._die_next, self.come_back)
            self._die_next = None
            work.dies_at = self.random.randint(1, MOST_ROWS)
        self._storing, work.stored = work, True
        self.calls[work.call.method] += 1
        documents = len(self.documents)
        try:
            return await self._backend.answer(work.call)
        finally:
            self._tell(f"{work}{', for nobody' if work.session.last is not None else ''}")
            self._note_document(work, documents)

    def _note_document(self, work: Work, documents: int) -> None:
        if work.call.method == "storeFitEvent" and work.call.arguments["fe"] is not None:
            fit = work.call.arguments["fe"]
            if fit.metadata is not None and len(self.documents) == documents:
                self.without_document.add(fit.experimentRunId)

    def _durations(self, work: Work) -> tuple[float, float]:
        """Seconds until the rows of a call are stored, and from then to its answer."""
        random = self.random
        if not writes(work.call):
            return random.uniform(*READ_SECONDS), 0.0
        seconds = random.uniform(*WRITE_SECONDS)
        if random.random() >= self.chance_of_slow_write:
            return seconds, random.uniform(0.0, LAST_COMMIT_SECONDS)
        self._fault("slow write")
        slow = work.session.call_seconds + random.uniform(0.0, self.linger_seconds)
        return (slow, 0.0) if random.random() < 0.5 else (seconds, slow)

    def _begin_write(self, work: Work) -> None:
        for other in self._writing:
            if other.session is work.session:
                continue
            self.violations.append(f"two writers at once: {other} and {work}")
            self._tell(self.violations[-1])
            self.counts["two writers at once"] += 1
            if self.random.random() < self.chance_of_damage:
                victim = self.random.choice([each for each in (other, work) if not each.stored])
                victim.damaged_at = self.random.randint(1, 3)
        self._writing[work] = None

    def _break_off(self, work: Work) -> None:
        """Stores some of a call's rows, right before the server is gone."""
        work.dies_at = self.random.randint(1, MOST_ROWS)
        self._storing, work.stored = work, True
        documents = len(self.documents)
        try:
            if not self.faults.storage_busy and not self.faults.frozen:
                STORING[work.call.method](self.store, work.call.arguments)
                self._note_document(work, documents)
        except ServerDiedError:
            self.counts["died in a call"] += 1
            self._tell(f"{work}, cut off after {work.rows} rows")
            self._note_document(work, documents)
        except (ServerError, TException, ConnectionBrokenError):
            pass  # no caller is left

    def _row_stored(self, table: Table, row: Row) -> int | None:
        work = self._storing
        if work is not None:
            work.rows += 1
            if work.rows == work.dies_at:
                self.faults.die_after_row(table.name)
            elif work.rows == work.damaged_at:
                self._fault(f"rows of two writers mixed in {table.name}")
                self.faults.foreign_writer(table.name, their_id=self.random.random() < 0.5)
        return self._read_back(table, row)
