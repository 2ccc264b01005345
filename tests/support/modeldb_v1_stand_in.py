"""The demo's ModelDB V1 stand-in with fault injection: what can be made to go wrong while it runs.

| switch | what clients see |
|---|---|
| `mongo_down = True` | the first call that needs MongoDB fails at once, later ones in time |
| `mongo_frozen = True` | what needs MongoDB waits, and what is behind it on its connection |
| `storage_busy = True` | what needs SQLite fails with SQLITE_BUSY |
| `freeze()`, `thaw()` | connections are accepted, nothing is carried out or answered |
| `drop_before_execution()` | the call is not carried out, its connection closed |
| `drop_before_answer()` | the call is carried out, its connection closed |
| `half_answer()` | the call is carried out, half of the answer sent, the connection closed |
| `garbage_answer()` | the call is carried out; the answer's frame is no Thrift |
| `wrong_sequence_id()` | the call is carried out; the answer has another call's number |
| `refuse(exception)` | the call is not carried out and gets this answer |
| `hold_before_execution()`, `hold_before_answer()` | the call waits for `Hold.release` |
| `die_after_row(table)` | the server dies when the row is stored: later rows are missing |
| `foreign_writer(table)` | another program writes: the id read back is not the row's |

"In time" is after `mongo_timeout_seconds`, unless MongoDB is back before.

Those with parentheses of a call take `nth` (the first call from now that fits, or a later one),
`method` and `when` (a predicate on the call), and are over when they have happened. `clear` ends
everything.

What a foreign writer does (as the recordings of three writers show it): with no id read back, a run
or a metric ends with a NullPointerException, a DataFrame or a spec with parts fails at the NOT NULL
of the part's reference, a model at FitEvent.transformer; what was stored before stays. With the
other's id read back, the call continues with it, without an error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1 import server
from daemon.demo.modeldb_v1.dispatch import refusal
from daemon.demo.modeldb_v1.faults import Faults, mongo_timeout
from daemon.demo.modeldb_v1.store import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.demo.modeldb_v1.store import Row, Store, Table
    from daemon.targets.modeldb_v1.codec import Call

FOREIGN_RUN = "another writer's run"
"""The description of the run that `InjectedFaults.foreign_writer` slips in."""

_GARBAGE = server.framed(b"HTTP/1.1 400 Bad Request")


class ServerDiedError(Exception):
    """The process of the server is gone."""


class Step(Enum):
    """Where a call meets its fault."""

    HOLD_FIRST = auto()
    DROP_FIRST = auto()
    REFUSE = auto()
    HOLD_ANSWER = auto()
    DROP_ANSWER = auto()
    HALF_ANSWER = auto()
    GARBAGE_ANSWER = auto()
    WRONG_SEQUENCE_ID = auto()


class Hold:
    """A call that waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set as soon as the call waits."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Resumes the call."""
        self._released.set()

    async def pause(self) -> None:
        """For the server."""
        self.reached.set()
        await self._released.wait()


@dataclass(slots=True)
class Plan:
    step: Step
    left: int
    method: str | None
    when: Callable[[Call], bool] | None
    exception: Any = None
    hold: Hold = field(default_factory=Hold)

    def fits(self, call: Call) -> bool:
        return self.method in {None, call.method} and (self.when is None or self.when(call))


@dataclass(slots=True)
class _RowPlan:
    table: str
    left: int
    dies: bool = False
    theirs: bool = False


class InjectedFaults(Faults):
    """See the module's table. Every switch is off at first.

    Args:
        store: for the rows of foreign writers.
        has_mongo: False: the server was set up without MongoDB, which therefore never answers.
        mongo_timeout_seconds: how long the server looks for a MongoDB that is gone.
        storage_busy_seconds: how long it waits for a locked database.
    """

    def __init__(
        self,
        store: Store,
        *,
        has_mongo: bool,
        mongo_timeout_seconds: float,
        storage_busy_seconds: float,
    ) -> None:
        super().__init__(
            has_mongo=has_mongo,
            mongo_timeout_seconds=mongo_timeout_seconds,
            storage_busy_seconds=storage_busy_seconds,
        )
        self._store = store
        self._mongo_noticed = not has_mongo
        self._mongo_up, self._mongo_moves, self._thawed = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        for event in (self._mongo_moves, self._thawed, *((self._mongo_up,) if has_mongo else ())):
            event.set()
        self._plans: list[Plan] = []
        self._row_plans: list[_RowPlan] = []
        store.read_back = self._read_back

    @property
    def mongo_down(self) -> bool:
        return not self._mongo_up.is_set()

    @mongo_down.setter
    def mongo_down(self, down: bool) -> None:
        if not self._has_mongo:
            raise ValueError("this server has no MongoDB")
        self._mongo_noticed = False
        if down:
            self._mongo_up.clear()
        else:
            self._mongo_up.set()

    @property
    def mongo_frozen(self) -> bool:
        return not self._mongo_moves.is_set()

    @mongo_frozen.setter
    def mongo_frozen(self, frozen: bool) -> None:
        if frozen:
            self._mongo_moves.clear()
        else:
            self._mongo_moves.set()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def drop_before_execution(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> None:
        self._plan(Step.DROP_FIRST, nth, method, when)

    def drop_before_answer(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> None:
        self._plan(Step.DROP_ANSWER, nth, method, when)

    def half_answer(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> None:
        self._plan(Step.HALF_ANSWER, nth, method, when)

    def garbage_answer(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> None:
        self._plan(Step.GARBAGE_ANSWER, nth, method, when)

    def wrong_sequence_id(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> None:
        self._plan(Step.WRONG_SEQUENCE_ID, nth, method, when)

    def refuse(
        self,
        exception: object,
        nth: int = 1,
        *,
        method: str | None = None,
        when: Callable[[Call], bool] | None = None,
    ) -> None:
        """Args: exception: a struct of the interface, or an
        `daemon.targets.modeldb_v1.codec.ApplicationException`.
        """
        self._plan(Step.REFUSE, nth, method, when).exception = exception

    def hold_before_execution(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> Hold:
        return self._plan(Step.HOLD_FIRST, nth, method, when).hold

    def hold_before_answer(
        self, nth: int = 1, *, method: str | None = None, when: Callable[[Call], bool] | None = None
    ) -> Hold:
        return self._plan(Step.HOLD_ANSWER, nth, method, when).hold

    def die_after_row(self, table: str, nth: int = 1) -> None:
        """Args: table: as the server names it; nth: which insert from now."""
        self._row_plans.append(_RowPlan(table, nth, dies=True))

    def foreign_writer(self, table: str, nth: int = 1, *, their_id: bool = False) -> None:
        """Another writer comes between an insert and the reading of its id.

        Args:
            table: as the server names it.
            nth: which insert from now.
            their_id: True: the id of the other's row, which is stored at that moment, comes back;
                False: none does.
        """
        self._row_plans.append(_RowPlan(table, nth, theirs=their_id, dies=False))

    def clear(self) -> None:
        """Everything works again; what waited goes on."""
        self.storage_busy = self.mongo_frozen = False
        if self._has_mongo:
            self.mongo_down = False
        for plan in self._plans:
            plan.hold.release()
        self._plans.clear()
        self._row_plans.clear()
        self.thaw()

    def _plan(
        self, step: Step, nth: int, method: str | None, when: Callable[[Call], bool] | None
    ) -> Plan:
        plan = Plan(step, nth, method, when)
        self._plans.append(plan)
        return plan

    # What follows is for the server.

    async def thawed(self) -> None:
        """Returns as soon as nothing is frozen."""
        await self._thawed.wait()

    def take(self, call: Call) -> dict[Step, Plan]:
        """What this call is to meet."""
        due = {}
        for plan in [plan for plan in self._plans if plan.fits(call)]:
            plan.left -= 1
            if plan.left <= 0:
                self._plans.remove(plan)
                due[plan.step] = plan
        return due

    async def reach_mongo(self, *, to_write: bool) -> None:
        """Raises `ServerError` when MongoDB does not answer."""
        await self._mongo_moves.wait()
        if self._mongo_up.is_set():
            return
        if not self._mongo_noticed:
            self._mongo_noticed = True
            raise ServerError("MongoSocketReadException: Prematurely reached end of stream")
        try:
            async with asyncio.timeout(self.mongo_timeout_seconds):
                await self._mongo_up.wait()
        except TimeoutError as error:
            raise mongo_timeout(to_write=to_write) from error

    def _read_back(self, table: Table, row: Row) -> int | None:
        for plan in [plan for plan in self._row_plans if plan.table == table.name]:
            plan.left -= 1
            if plan.left > 0:
                continue
            self._row_plans.remove(plan)
            if plan.dies:
                raise ServerDiedError
            if not plan.theirs:
                return None
            other = {name: value for name, value in row.items() if name != "id"}
            if table is self._store.runs:
                other["description"] = FOREIGN_RUN
            return int(table.insert(other)["id"])
        return int(row["id"])


@dataclass(frozen=True, slots=True)
class Received:
    """A call that arrived."""

    connection: int
    """1 for the first that was ever served."""
    method: str


def _copies(table: str) -> property:
    """Copies of a table's rows in the order of their ids, with the server's columns."""
    return property(lambda server: [dict(row) for row in getattr(server.store, table)])


class ModelDbV1StandIn(server.ModelDbV1StandIn):
    """The stand-in with `InjectedFaults`, a list of what arrived, and a view of each table.

    Args:
        settings: of the stand-in.
    """

    faults: InjectedFaults
    projects = _copies("projects")
    experiments = _copies("experiments")
    runs = _copies("runs")
    fits = _copies("fits")
    models = _copies("models")
    data_frames = _copies("data_frames")
    metrics = _copies("metrics")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.received: list[Received] = []
        """All calls that arrived, dropped ones included."""
        self._arrival = asyncio.Event()

    @property
    def calls(self) -> list[str]:
        """The methods of all calls that arrived, dropped ones included."""
        return [each.method for each in self.received]

    @property
    def open_connections(self) -> int:
        """How many there are now, waiting ones included."""
        return len(self._connections)

    async def wait_for_calls(self, method: str, count: int = 1) -> None:
        """Returns as soon as so many calls of a method have arrived since the object was made."""
        while self.calls.count(method) < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def restart(self) -> None:
        """On the same port and with its data; raises OSError when it is taken."""
        await self.aclose()
        await self.start(self.host)

    def _new_faults(
        self, *, has_mongo: bool, mongo_timeout_seconds: float, storage_busy_seconds: float
    ) -> InjectedFaults:
        return InjectedFaults(
            self.store,
            has_mongo=has_mongo,
            mongo_timeout_seconds=mongo_timeout_seconds,
            storage_busy_seconds=storage_busy_seconds,
        )

    async def _take(self, call: Call, connection: server.Connection) -> bool:
        self.received.append(Received(connection.number, call.method))
        self._arrival.set()
        await self.faults.thawed()
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
            try:
                answer = await self._backend.answer(call)
            except ServerDiedError:
                self._die()
                return False
        if Step.HOLD_ANSWER in due:
            await due[Step.HOLD_ANSWER].hold.pause()
        await self.faults.thawed()
        if Step.DROP_ANSWER in due:
            return False
        frame = _GARBAGE if Step.GARBAGE_ANSWER in due else server.framed(answer)
        if Step.HALF_ANSWER in due:
            connection.send(frame[: len(frame) // 2])
            return False
        connection.send(frame)
        return True
