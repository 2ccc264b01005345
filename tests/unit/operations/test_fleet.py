"""The replicas' notes: written each minute and at each change, gone after an orderly stop."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.owners import host_of, new_owner
from daemon.operations import fleet as fleet_module
from daemon.operations.fleet import FORGOTTEN_SECONDS, PREFIX, VANISHED, Fleet, Replica
from tests.support.checkpoint_calls import FakeClock, checkpoints_at, several_owners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.checkpoint_calls import Start


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClock]:
    clock = FakeClock()
    monkeypatch.setattr(fleet_module, "wall", lambda: clock.now)
    monkeypatch.setattr(fleet_module, "monotonic", lambda: clock.now)
    with checkpoints_at(clock):
        yield clock


@pytest.fixture
async def start(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Start]:
    del clock
    async with several_owners(tmp_path / "checkpoint.db") as start:
        yield start


class Daemon:
    """What a replica says of itself, and how often it wrote that down."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.writes = 0
        self.here = Replica("", "0.1.0", clock.now, "ready")

    @classmethod
    async def of(cls, start: Start, clock: FakeClock) -> Daemon:
        daemon = cls(clock)
        checkpoint = await start()
        daemon.here = replace(daemon.here, owner=checkpoint.owner)
        put = checkpoint.put_note

        async def counted(name: str, value: str | None) -> None:
            daemon.writes += 1
            await put(name, value)

        seen = SimpleNamespace(put_note=counted, notes=checkpoint.notes)
        daemon.fleet = Fleet(
            seen,
            lambda: replace(daemon.here, seen_at=clock.now),
            lambda _fault: None,
        )
        return daemon

    fleet: Fleet

    def seen(self) -> dict[str, str]:
        return {each.owner: each.state for each in self.fleet.replicas}


async def test_each_sees_the_others_and_itself_first(start: Start, clock: FakeClock) -> None:
    first, second = [await Daemon.of(start, clock) for _ in range(2)]
    for each in (first, second):
        await each.fleet.turn()
    assert list(first.seen()) == [first.here.owner]  # it looked before the second one wrote
    clock.now += 60
    await first.fleet.turn()
    assert list(first.seen()) == [first.here.owner, second.here.owner]
    assert list(second.seen()) == [second.here.owner, first.here.owner]


async def test_a_note_a_minute_and_one_at_each_change(start: Start, clock: FakeClock) -> None:
    daemon = await Daemon.of(start, clock)
    for _ in range(120):
        await daemon.fleet.turn()
        clock.now += 5
    assert daemon.writes == 10
    daemon.here = replace(daemon.here, state="paused", why="target unavailable")
    await daemon.fleet.turn()
    await daemon.fleet.turn()
    assert daemon.writes == 11


async def test_a_replica_that_stops_in_order_is_gone_at_once(
    start: Start, clock: FakeClock
) -> None:
    first, second = [await Daemon.of(start, clock) for _ in range(2)]
    await second.fleet.turn()
    await first.fleet.turn()
    assert len(first.seen()) == 2
    await second.fleet.leave()
    clock.now += 60
    await first.fleet.turn()
    assert list(first.seen()) == [first.here.owner]


async def test_a_replica_that_was_killed_has_vanished_and_is_forgotten_after_an_hour(
    start: Start, clock: FakeClock
) -> None:
    first, second = [await Daemon.of(start, clock) for _ in range(2)]
    await second.fleet.turn()
    await first.fleet.turn()
    clock.now += 181
    assert first.seen()[second.here.owner] == VANISHED
    await first.fleet.turn()
    assert first.seen()[second.here.owner] == VANISHED
    clock.now += FORGOTTEN_SECONDS
    await first.fleet.turn()
    assert list(first.seen()) == [first.here.owner]
    third = await start()
    assert list(await third.notes(PREFIX)) == [PREFIX + first.here.owner]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        '{"version": 1}',
        '{"state": "ready"}',
        '{"version": "9", "started_at": NaN, "state": "ready"}',
        '{"version": 9, "started_at": 1, "state": "ready"}',
    ],
)
async def test_a_note_of_another_version_that_cannot_be_read_is_left_out(
    start: Start, clock: FakeClock, note: str
) -> None:
    other = await start()
    await other.put_note(f"{PREFIX}other", note)
    daemon = await Daemon.of(start, clock)
    await daemon.fleet.turn()
    assert list(daemon.seen()) == [daemon.here.owner]


async def test_members_that_a_newer_version_adds_are_ignored(
    start: Start, clock: FakeClock
) -> None:
    other = await start()
    note = '{"version": "9", "started_at": 1, "state": "ready", "seen_at": %f, "more": []}'
    await other.put_note(f"{PREFIX}other", note % clock.now)
    daemon = await Daemon.of(start, clock)
    await daemon.fleet.turn()
    assert daemon.seen()["other"] == "ready"


def test_an_owner_tells_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "modeldb-sync-7d9f-x2k4p.ns.svc")
    one, other = new_owner(), new_owner()
    assert one != other
    assert host_of(one) == host_of(other) == "modeldb-sync-7d9f-x2k4p"
    monkeypatch.setattr("socket.gethostname", lambda: f"a/b{'x' * 100}")
    assert host_of(new_owner()) == f"a-b{'x' * 45}"
    assert host_of("0b9b5a8e6f5a4d2f8f0a7b1c2d3e4f50") == ""
