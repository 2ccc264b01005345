"""The benchmark's harness with real participants: a queue is emptied, and all is accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.bench.contestants import IMAGE_VARIABLES, RUNTIME, BareLoop, Daemon
from benchmarks.bench.drain import WARM_UP, drain
from benchmarks.bench.environments import ROOT, PythonEnvironment
from benchmarks.bench.machine import Cores, cpu_seconds, family, rss_mb
from benchmarks.bench.steady import outcome_times, steady
from benchmarks.bench.trouble import stopped_under_load, twice, with_poison
from benchmarks.bench.turns import in_turn, side_by_side
from benchmarks.bench.world import StuckError, open_round, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.bench.contestants import Contestant

JOBS = 20


class ThisEnvironment(PythonEnvironment):
    """The tests' own: it has what floor and daemon need."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)


class FloorHere(BareLoop):
    environment = ThisEnvironment("floor", RUNTIME)


class DaemonHere(Daemon):
    environment = ThisEnvironment("daemon", RUNTIME)


class NobodyHere(BareLoop):
    """Ends without doing anything."""

    async def command(self, _assignment: object) -> list[str]:
        return [sys.executable, "-c", "print('nothing to do')"]


def test_the_daemon_runs_with_the_variables_of_its_image() -> None:
    final_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    for variable in IMAGE_VARIABLES:
        assert variable in final_stage.split()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_steady_events_have_a_time_to_the_run_and_to_the_outcome() -> None:
    async with open_world(Cores(None, None)) as world:
        figures = await steady(world, DaemonHere(), rate=10, seconds=1)
    assert figures.account.exact
    assert figures.to_outcome is not None
    assert 0 < figures.to_run.p50 <= figures.to_outcome.p50 < figures.to_outcome.p99


# several processes, some of which wait for messages to become visible again
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_floor_and_daemon_with_twenty_jobs() -> None:
    async with open_world(Cores(None, None)) as world:
        for contestant in (FloorHere(), DaemonHere()):
            drained = await drain(world, contestant, JOBS)
            assert (drained.account.jobs, drained.account.exact) == (WARM_UP + JOBS, True)
            assert drained.jobs_per_second > 0
            assert drained.cpu_ms > 0
            assert 10 < drained.rss_mb < 500

        doubles = await twice(world, DaemonHere(), JOBS)
        assert (doubles.account.jobs, doubles.account.exact, doubles.left) == (JOBS, True, 0)

        poisoned = await with_poison(world, DaemonHere(), JOBS)
        assert (poisoned.account.exact, poisoned.dead_letters, poisoned.left) == (True, 1, 0)

        stopped = await stopped_under_load(world, DaemonHere(), JOBS)
        assert (stopped.account.jobs, stopped.account.exact, stopped.left) == (JOBS, True, 0)


async def test_a_participant_that_ends_is_not_waited_for() -> None:
    async with open_world(Cores(None, None)) as world:
        with pytest.raises(StuckError, match=r"floor: 0 of 20 runs\nnothing to do"):
            await drain(world, NobodyHere(), 1)


async def test_messages_that_nobody_takes_are_not_counted_as_lost_jobs() -> None:
    async with open_world(Cores(None, None)) as world, open_round(world, NobodyHere()) as scene:
        await scene.send(scene.events(2))
        await scene.start()

        with pytest.raises(StuckError, match="floor: 2 messages are left"):
            await scene.until_empty(0.2)


async def test_participants_take_turns_and_a_stuck_one_has_no_figure() -> None:
    calls: list[str] = []

    async def one(contestant: Contestant) -> dict[str, Any]:
        calls.append(contestant.key)
        if contestant.key == "floor" and len(calls) == 1:
            raise StuckError("no runs")
        return {"number": len(calls)}

    figures = await in_turn("drain", [BareLoop(), Daemon()], 2, one)

    assert calls == ["floor", "daemon-sqlite"] * 2
    assert figures == {
        "floor": [{"stuck": "no runs"}, {"number": 3}],
        "daemon-sqlite": [{"number": 2}, {"number": 4}],
    }


async def test_side_by_side_all_run_at_once() -> None:
    together = asyncio.Barrier(2)

    async def one(contestant: Contestant) -> dict[str, Any]:
        await together.wait()
        return {"key": contestant.key}

    figures = await side_by_side("twice", [BareLoop(), Daemon()], one)

    assert figures == {"floor": [{"key": "floor"}], "daemon-sqlite": [{"key": "daemon-sqlite"}]}


def test_outcome_times_are_those_of_synced_jobs() -> None:
    times = outcome_times(
        [
            "not JSON",
            (
                '{"event": "job outcome", "outcome": "synced", "job": "a", '
                '"timestamp": "2026-11-29T12:00:01.500Z"}'
            ),
            (
                '{"event": "job outcome", "outcome": "held", "job": "b", '
                '"timestamp": "2026-11-29T12:00:02Z"}'
            ),
        ]
    )

    assert times == {"a": 1795953601.5}


@contextlib.contextmanager
def parent_and_child() -> Iterator[int]:
    import subprocess

    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {busy!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print('ready', flush=True); sys.stdin.read(); child.kill()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_what_a_participant_uses_includes_its_children() -> None:
    with parent_and_child() as pid:
        pids = family(pid)

        assert len(pids) == 2
        assert cpu_seconds(pids) >= 0.3
        assert cpu_seconds([pid]) < cpu_seconds(pids)
        assert rss_mb(pids) > rss_mb([pid]) > 1
        assert rss_mb(pids, "VmHWM") >= rss_mb(pids) * 0.9
    assert family(pid) == []
