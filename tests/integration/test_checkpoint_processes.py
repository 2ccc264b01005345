"""The SQLite checkpoint with several real processes, killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, ClaimedElsewhere, JobState, WriterElsewhere, WriterLease
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from tests.support import checkpoint_process
from tests.support.checkpoint_calls import LEASE, TARGET, arn_of, claimed, mark_of, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@contextlib.asynccontextmanager
async def process(
    verb: str, path: Path, *arguments: object, stdout: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Werror",
        str(Path(checkpoint_process.__file__)),
        verb,
        str(path),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def line(child: asyncio.subprocess.Process) -> list[str]:
    assert child.stdout is not None
    return (await child.stdout.readline()).decode().split()


async def rest(child: asyncio.subprocess.Process) -> list[list[str]]:
    output, _ = await child.communicate()
    return [text.split() for text in output.decode().splitlines()]


async def kill(child: asyncio.subprocess.Process) -> None:
    child.send_signal(signal.SIGKILL)
    await child.wait()


def files(path: Path) -> list[str]:
    return sorted(file.name.partition(".owner-")[0] for file in path.parent.iterdir())


async def test_processes_that_open_a_new_file_at_once_all_succeed(path: Path) -> None:
    rounds = 20
    async with contextlib.AsyncExitStack() as stack:
        start_at = time.time() + 1.0
        children = [
            await stack.enter_async_context(process("open_many", path, rounds, start_at))
            for _ in range(4)
        ]

        outputs = await asyncio.gather(*(rest(child) for child in children))

    assert outputs == [[["done"]]] * 4
    # SQLite leaves a WAL behind when the last two close at the same moment.
    assert {file for file in files(path) if not file.endswith(("-wal", "-shm"))} == {
        f"{n}-checkpoint.db" for n in range(rounds)
    }


async def test_a_job_is_claimed_by_one_process_at_a_time(path: Path, tmp_path: Path) -> None:
    jobs = 200
    async with contextlib.AsyncExitStack() as stack:
        log = tmp_path / "log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        stack.callback(os.close, descriptor)
        children = [
            await stack.enter_async_context(process("race", path, jobs, stdout=descriptor))
            for _ in range(4)
        ]
        assert await asyncio.gather(*(child.wait() for child in children)) == [0] * 4

    held: dict[str, list[list[str]]] = defaultdict(list)
    for entry in log.read_text().splitlines():
        word, arn, pid, fence = entry.split()
        held[arn].append([word, pid, fence])
    assert len(held) == jobs
    for entries in held.values():
        begins, ends = entries[::2], entries[1::2]
        assert [["end", *begin[1:]] for begin in begins] == ends, (
            "somebody began before the former holder's end"
        )
        assert len({pid for _, pid, _ in begins}) == 4
        fences = [int(fence) for *_, fence in begins]
        assert fences == sorted(set(fences))


async def test_what_a_killed_process_held_is_free_for_the_next_start_at_once(path: Path) -> None:
    async with process("hold", path, 20) as child:
        assert (await line(child))[0] == "holding"
        await kill(child)

        checkpoint = await open_sqlite_checkpoint(path, TARGET)

    assert files(path) == [
        "checkpoint.db",
        "checkpoint.db",
        "checkpoint.db-shm",
        "checkpoint.db-wal",
    ], "one lock file, ours"
    claims = [await claimed(checkpoint, arn_of(number)) for number in range(20)]
    await checkpoint.lock_name(claims[5], "project/churn", LEASE)
    await checkpoint.lock_name(claims[5], "run/0", LEASE)
    record = await row(checkpoint, mark_of(0))
    assert (record.state, record.unanswered_writes) == (JobState.WRITING, 1)
    await checkpoint.aclose()


async def test_what_a_killed_process_held_is_free_for_one_that_runs_already(path: Path) -> None:
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    async with process("hold", path, 20) as child:
        _, owner = await line(child)
        answer = await checkpoint.claim(arn_of(3), LEASE)
        assert isinstance(answer, ClaimedElsewhere)
        assert answer.owner == owner
        assert 3500 < answer.seconds_left <= 3600

        await kill(child)

    assert isinstance(await checkpoint.claim(arn_of(3), LEASE), Claim)
    await checkpoint.aclose()


async def test_a_process_that_is_only_stopped_keeps_its_claims(path: Path) -> None:
    async with process("hold", path, 5) as child:
        await line(child)
        child.send_signal(signal.SIGSTOP)

        checkpoint = await open_sqlite_checkpoint(path, TARGET)

        assert isinstance(await checkpoint.claim(arn_of(3), LEASE), ClaimedElsewhere)
        await checkpoint.aclose()


async def test_what_was_acknowledged_before_a_kill_is_there_afterwards(path: Path) -> None:
    acknowledged: set[int] = set()
    begun: set[int] = set()
    for turn in range(3):
        async with process("write", path, turn * 1_000_000) as child:
            lines = [await line(child) for _ in range(150)]
            child.send_signal(signal.SIGKILL)
            lines += await rest(child)
        acknowledged |= {int(number) for word, number, *_ in lines if word == "synced"}
        begun |= {int(number) for word, number, *_ in lines if word == "writing"}

        checkpoint = await open_sqlite_checkpoint(path, TARGET)
        records = {
            number: await row(checkpoint, mark_of(number)) for number in begun | acknowledged
        }
        counts = await checkpoint.row_counts()
        verdict = await checkpoint._read(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0]
        )
        await checkpoint.aclose()

        assert verdict == "ok"
        assert {
            number for number, record in records.items() if record.state is JobState.SYNCED
        } >= acknowledged
        assert all(
            record.target_ids == {"run_id": f"r-{number}"}
            for number, record in records.items()
            if number in acknowledged
        )
        assert counts["writing"] <= checkpoint_process.WORKERS * (turn + 1)
    assert len(acknowledged) > 150


async def test_a_full_disk_is_an_edge_fault_and_passes(path: Path) -> None:
    async with process("fill_up", path, 1_500_000) as child:
        lines = await rest(child)
        assert child.returncode == 0

    words = [words[0] for words in lines]
    before, after = words[: words.index("fault")], words[words.index("still") :]
    (fault,) = (" ".join(text) for text in lines if text[0] == "fault")
    assert before.count("synced") > 10
    assert fault.startswith(
        f"fault checkpoint: storage: checkpoint {path}: the storage failed; look at the disk"
    )
    assert after.count("synced") == 50
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT state, count(*) FROM jobs GROUP BY 1").fetchall() == [
            ("synced", words.count("synced"))
        ]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("how", ["killed", "closed in order with calls unanswered"])
@pytest.mark.parametrize("next_one", ["ran already", "starts afterwards"])
async def test_the_writer_lease_of_a_process_that_has_ended_is_free_after_the_grace(
    path: Path, how: str, next_one: str
) -> None:
    async with process("write_alone", path, 3600) as child:
        _, owner = await line(child)
        checkpoint = await open_sqlite_checkpoint(path, TARGET)
        elsewhere = await checkpoint.take_writer_lease("modeldb", LEASE, grace_seconds=50)
        assert isinstance(elsewhere, WriterElsewhere)
        assert (elsewhere.owner, elsewhere.ended) == (owner, False)
        assert elsewhere.seconds_left > 3600
        if next_one == "starts afterwards":
            await checkpoint.aclose()

        if how == "killed":
            await kill(child)
        else:
            await child.communicate(b"\n")
            assert child.returncode == 0

        if next_one == "starts afterwards":
            checkpoint = await open_sqlite_checkpoint(path, TARGET)
        ended = await checkpoint.take_writer_lease("modeldb", LEASE, grace_seconds=50)
        assert isinstance(ended, WriterElsewhere)
        assert (ended.owner, ended.ended) == (owner, True)
        assert 40 < ended.seconds_left <= 50

        await asyncio.sleep(0.3)
        taken = await checkpoint.take_writer_lease("modeldb", LEASE, grace_seconds=0.2)
        assert isinstance(taken, WriterLease)
        assert taken.term == 2
        await checkpoint.aclose()
