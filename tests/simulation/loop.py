"""An event loop with virtual time and processes that can crash at any step, for deterministic
simulation.

Time advances only when nothing is left to do, so waiting for an hour costs nothing. Everything
follows from the program and the seed: no threads, no sockets, no real clock, no order by address or
hash.

A `Process` is a part of the program that can die on its own: every task, callback and "thread"
started inside it carries it in its context. After a crash nothing of it runs any more, not even a
`finally`: its tasks are kept as they are until the history ends. A process can also be paused, as
by SIGSTOP: what would run of it waits until it is woken. And it can be on a host of its own, whose
clock is not quite right (`HostClock`).

Existing packages were considered: simloop and seedloop need Python 3.12, and crashes in seedloop
and looptime are cancellations, which run code that a killed process never runs. asyncio's own
scheduling is kept; only where it would wait, time is advanced.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import selectors
import sys
import time
import uuid
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Iterator, Mapping

T = TypeVar("T")

START = 1_800_000_000.0
"""The wall clock at virtual second 0 (2027-01-15)."""
_RESOLUTION = 1e-6

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class StuckError(AssertionError):
    """A history does not end: no event is left, or it has taken too many turns."""


@dataclass
class HostClock:
    """The wall clock of one host, which is off and drifts, but never by more than a bound.

    Attributes:
        ahead: seconds at virtual second 0.
        drift: seconds that it gains in each.
        bound: it is never further off, in seconds.
    """

    ahead: float
    drift: float
    bound: float

    def ahead_at(self, now: float) -> float:
        """Seconds ahead of the true time at a virtual second."""
        return max(-self.bound, min(self.bound, self.ahead + self.drift * now))

    def step_to(self, ahead: float, now: float) -> None:
        """It is set, to be so many seconds ahead at a virtual second."""
        self.ahead = ahead - self.drift * now


class Process:
    """A part of the program that crashes as a whole.

    Args:
        name: for people.
        on_crash: called when it crashes, outside of it.
        clock: of its host; None: it is right.

    Attributes:
        steps: how often something of it has been run so far: every point at which it could have
            crashed.
        before_step: the number of a step before which something happens to it, and what; None:
            nothing does.
    """

    def __init__(
        self,
        name: str,
        on_crash: Callable[[], None] = lambda: None,
        *,
        clock: HostClock | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.steps = 0
        self.before_step: tuple[int, Callable[[], None]] | None = None
        self.dead = False
        self._on_crash = on_crash
        self._waiting: list[asyncio.Handle] | None = None

    @staticmethod
    def current() -> Process | None:
        """The process of the code that is running now."""
        return _process.get()

    def crash(self) -> None:
        """Stops the process: none of it runs any more."""
        if not self.dead:
            self.dead = True
            self._on_crash()

    @property
    def is_paused(self) -> bool:
        return self._waiting is not None

    def pause(self) -> None:
        """Same effect as SIGSTOP. What it has sent is carried out, and its answers wait."""
        if self._waiting is None and not self.dead:
            self._waiting = []

    def wake(self, loop: VirtualLoop) -> None:
        """Same effect as SIGCONT: everything that came in between runs now, in that order."""
        waiting, self._waiting = self._waiting or [], None
        for handle in waiting:
            loop.run_next(handle)

    def may_step(self, handle: asyncio.Handle) -> bool:
        """For the loop, before each step.

        Args:
            handle: the step, which waits if the process is paused.
        """
        if self.dead:
            return False
        if self._waits(handle):
            return False
        self.steps += 1
        if self.before_step is not None and self.steps == self.before_step[0]:
            happen, self.before_step = self.before_step[1], None
            happen()
        if self._waits(handle):
            self.steps -= 1  # it is yet to come
            return False
        return not self.dead

    def _waits(self, handle: asyncio.Handle) -> bool:
        if self._waiting is not None:
            self._waiting.append(handle)
        return self._waiting is not None


class _Handle(asyncio.Handle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(_process)  # type: ignore[attr-defined] # asyncio's own handle keeps it there
        if process is None or process.may_step(self):
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(_process)  # type: ignore[attr-defined] # as above
        if process is None or process.may_step(self):
            super()._run()


class _Numbered:
    """Sets of tasks and futures must not be ordered by where they lie in memory."""

    number: int

    def __hash__(self) -> int:
        return self.number


class _Task(_Numbered, asyncio.Task[Any]):
    __hash__ = _Numbered.__hash__

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **more: Any) -> None:
        self.number = number
        super().__init__(coro, **more)


class _Future(_Numbered, asyncio.Future[Any]):
    __hash__ = _Numbered.__hash__

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)


class _NoSelector(selectors.BaseSelector):
    """Advances the time instead of waiting for sockets."""

    def __init__(self) -> None:
        self.advance: Callable[[float | None], None] = lambda _timeout: None
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._map[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.advance(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module docstring.

    Attributes:
        disk_seconds: asked before and after each call that the program sends to a thread, which is
            carried out here.
        disk_free_at: when the disk does something again; until then, no call is begun.
        wall_offset: what the wall clock is ahead of the monotonic one; a jump of the clock changes
            it.
        turns: how often it has run what was due.
        most_turns: after so many it gives up.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._disk_calls: dict[object, float] = {}
        self.disk_free_at = 0.0
        self.turns = 0
        self.most_turns = sys.maxsize
        self._numbers = 0
        self._tasks: list[_Task] = []
        self.disk_seconds: Callable[[], float] = lambda: 0.0
        self.wall_offset = START
        selector = _NoSelector()
        super().__init__(selector)
        selector.advance = self._advance
        self._clock_resolution = _RESOLUTION
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def wall(self) -> float:
        """Epoch seconds, by the clock of the host of the process that is running."""
        process = Process.current()
        if process is None or process.clock is None:
            return self.true_wall()
        return self.true_wall() + process.clock.ahead_at(self._now)

    def true_wall(self) -> float:
        """Epoch seconds, by a clock that is right."""
        return self._now + self.wall_offset

    def run_next(self, handle: asyncio.Handle) -> None:
        """Runs what has become due before."""
        self._ready.append(handle)  # type: ignore[attr-defined] # asyncio's own queue

    def _advance(self, timeout: float | None) -> None:
        self.turns += 1
        if self.turns > self.most_turns:
            raise StuckError(f"no end after {self.turns - 1} turns (second {self._now:.1f})")
        if timeout is None:
            raise StuckError(f"nothing will ever happen again (second {self._now:.1f})")
        self._now += timeout

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return _Future(number=self._numbers, loop=self)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any
    ) -> asyncio.Task[Any]:
        self._numbers += 1
        task = _Task(coro, number=self._numbers, loop=loop, **more)
        self._tasks.append(task)
        if len(self._tasks) > 4000:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined] # asyncio's own queue
        return handle

    def call_at(  # type: ignore[override] # typeshed's has type variables that nothing here needs
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        timer.__class__ = _TimerHandle
        return timer

    def run_in_executor(  # type: ignore[override] # as above
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Carries it out in one go, a moment later; its result comes another moment later. A crash
        before, between or after is one.

        The calls of one executor are begun in order. One whose caller is gone is not begun, except
        the one with which the disk hangs.
        """
        future = self.create_future()
        due = self.time() + self.disk_seconds()
        behind = self._disk_calls.get(executor, 0.0)
        waits = behind > self.time()
        due = max(due, behind + _RESOLUTION, self.disk_free_at)
        self._disk_calls[executor] = due

        def tell(set_it: Callable[[Any], None], value: object) -> None:
            if not future.done():
                set_it(value)

        def carry_out() -> None:
            if waits and future.cancelled():
                return
            try:
                value = func(*args)
            except Exception as error:  # noqa: BLE001 - the awaiting caller gets it
                self.call_later(self.disk_seconds(), tell, future.set_exception, error)
            else:
                self.call_later(self.disk_seconds(), tell, future.set_result, value)

        self.call_at(due, carry_out)
        return future

    def start(
        self, process: Process, coro: Coroutine[Any, Any, T], *, name: str
    ) -> asyncio.Task[T]:
        """Starts a task as the first of a process."""
        context = contextvars.Context()
        context.run(_process.set, process)
        return self.create_task(coro, name=name, context=context)

    def spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task that belongs to no process, regardless of the caller."""
        return self.create_task(coro, context=contextvars.Context())

    def outside(self, callback: Callable[..., object], *args: Any) -> None:
        """Schedules a callback that belongs to no process."""
        self.call_soon(callback, *args, context=contextvars.Context())

    def ask(self, question: Callable[[], T]) -> T:
        """Calls something that asks for the time, while the loop does not run."""
        asyncio._set_running_loop(self)
        try:
            return question()
        finally:
            asyncio._set_running_loop(None)

    def end(self) -> None:
        """Discards what is left of crashed processes, and closes the loop."""
        with _nobody_listens():
            # Their `finally`, which no crash runs, runs here, as far as it gets: what it starts
            # must not end up on another loop.
            asyncio._set_running_loop(self)
            try:
                while left := [task for task in self._tasks if not task.done()]:
                    self._tasks = []
                    for task in left:
                        task._log_destroy_pending = False  # type: ignore[attr-defined] # it is no mistake that they never end
                        with contextlib.suppress(BaseException):
                            task.get_coro().close()
            finally:
                asyncio._set_running_loop(None)
            self.close()
            # What is left must not be found later, in the middle of something else. It is all
            # young.
            gc.collect(0)


@contextlib.contextmanager
def _nobody_listens() -> Iterator[None]:
    before = sys.unraisablehook
    sys.unraisablehook = lambda _unraisable: None
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def virtual(loop: VirtualLoop, seeded: random.Random) -> Iterator[None]:
    """Makes the clocks, ids and random numbers of the interpreter follow the loop and the seed."""
    real = time.time, time.time_ns, time.monotonic, uuid.uuid4
    time.time, time.time_ns, time.monotonic = loop.wall, lambda: int(loop.wall() * 1e9), loop.time
    uuid.uuid4 = lambda: uuid.UUID(int=seeded.getrandbits(128), version=4)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        time.time, time.time_ns, time.monotonic, uuid.uuid4 = real
        if collecting:
            gc.enable()
