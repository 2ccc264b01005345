from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import (
    Claim,
    JobState,
    LeaseLost,
)
from daemon.checkpoint.sqlite.database import Database
from daemon.checkpoint.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate
from daemon.checkpoint.sqlite.store import SqliteCheckpoint, open_sqlite_checkpoint
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import (
    LEASE,
    MARK,
    TARGET,
    FakeClock,
    arn_of,
    begin,
    claimed,
    locked_by_another_program,
    mark_of,
    row,
    synced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.checkpoint_calls import Start


class TestFile:
    async def test_the_file_and_those_beside_it_are_for_this_user_alone(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        former = os.umask(0)
        try:
            path = tmp_path / "state" / "checkpoint.db"
            checkpoint = await open_sqlite_checkpoint(path, TARGET)
            await checkpoint.probe()
            modes = {
                file.name.partition(".owner")[0]: file.stat().st_mode & 0o777
                for file in path.parent.iterdir()
            }
            await checkpoint.aclose()
        finally:
            os.umask(former)

        assert modes == dict.fromkeys(
            ("checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"), 0o600
        )
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [file.name for file in path.parent.iterdir()] == ["checkpoint.db"]

    async def test_it_is_durable_before_a_call_returns(self, checkpoint: SqliteCheckpoint) -> None:
        def settings(connection: sqlite3.Connection) -> list[Any]:
            return [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            ]

        # 2 is FULL: the WAL is synced at every commit
        assert await checkpoint._read(settings) == ["wal", 2]

    async def test_it_remembers_when_it_was_made(self, start: Start, clock: FakeClock) -> None:
        first = await start()
        made_at = clock.now
        await first.aclose()
        clock.now += 1000

        assert (await start()).created_at == first.created_at == made_at

    async def test_everything_is_in_the_file_after_closing(
        self, start: Start, path: Path, tmp_path: Path
    ) -> None:
        first, _second = await start(), await start()
        await synced(first, await claimed(first))
        await first.aclose()

        shutil.copy(path, tmp_path / "copy.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            assert copy.execute("SELECT state FROM jobs").fetchall() == [("synced",)]

    async def test_closing_twice_and_calling_afterwards(self, checkpoint: SqliteCheckpoint) -> None:
        await asyncio.gather(checkpoint.aclose(), checkpoint.aclose())
        await checkpoint.aclose()

        with pytest.raises(EdgeFault, match="is closed"):
            await checkpoint.probe()

    async def test_a_cancelled_closing_goes_on(self, start: Start, path: Path) -> None:
        first, second = await start(), await start()
        await claimed(first)
        with locked_by_another_program(path):
            closing = asyncio.create_task(first.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing

        await first.aclose()

        await claimed(second)

    async def test_closing_carries_out_what_was_asked_for(
        self, checkpoint: SqliteCheckpoint, start: Start
    ) -> None:
        asked = asyncio.create_task(synced(checkpoint, await claimed(checkpoint)))
        await asyncio.sleep(0)

        await checkpoint.aclose()

        await asked
        assert (await row(await start())).state is JobState.SYNCED


def make_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE experiments (id)")


def make_newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        other.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


def make_text(path: Path) -> None:
    path.write_text(
        "queue: {url: https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync}\n" * 100
    )


def make_damaged(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        migrate(other, path, 0.0)
        other.execute("BEGIN")
        other.executemany(
            "INSERT INTO rejected_messages VALUES (?, '', '', '', ?, 0)",
            [(f"m-{n}", "x" * 500) for n in range(500)],
        )
        other.execute("COMMIT")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(8192))


def open_files() -> list[str]:
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


class TestUnusableFile:
    """Every text names the file, what is wrong and what to do."""

    @pytest.mark.parametrize(
        ("make", "problem", "advice"),
        [
            (Path.mkdir, "is not a regular file", "set checkpoint.path to the path of a file"),
            (make_text, "no SQLite database", "move it away"),
            (make_damaged, "is damaged", "restore a backup"),
            (make_foreign, "belongs to another program", "set checkpoint.path"),
            (
                make_newer,
                (
                    f"its schema is version {len(MIGRATIONS) + 1}, this program knows "
                    f"{len(MIGRATIONS)}"
                ),
                "start that newer version",
            ),
        ],
    )
    async def test_it_is_refused_and_left_as_it_was(
        self, path: Path, make: Callable[[Path], None], problem: str, advice: str
    ) -> None:
        make(path)
        before = path.read_bytes() if path.is_file() else b""

        with pytest.raises(SetupFault) as caught:
            await open_sqlite_checkpoint(path, TARGET)

        assert str(caught.value).startswith(f"checkpoint {path}: ")
        assert problem in str(caught.value)
        assert advice in str(caught.value)
        assert (path.read_bytes() if path.is_file() else b"") == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    async def test_a_truncated_file_is_refused(self, start: Start, path: Path) -> None:
        checkpoint = await start()
        for number in range(50):
            await synced(checkpoint, await claimed(checkpoint, arn_of(number)), mark_of(number))
        await checkpoint.aclose()
        os.truncate(path, path.stat().st_size // 2)

        with pytest.raises(SetupFault, match="damaged"):
            await open_sqlite_checkpoint(path, TARGET)

    async def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "checkpoint.db"

        with pytest.raises(
            SetupFault,
            match=r"checkpoint .*/file/checkpoint\.db: .* let user \d+ make, lock and list files",
        ):
            await open_sqlite_checkpoint(path, TARGET)

    @pytest.mark.parametrize(
        ("directory_mode", "file_mode", "problem"),
        [
            (
                0o555,
                None,
                r"Permission denied .* let user \d+ make, lock and list files in its directory",
            ),
            (
                0o333,
                0o666,
                r"Permission denied .* let user \d+ make, lock and list files in its directory",
            ),
            (0o777, 0o444, r"cannot be opened for writing; let user \d+ write it"),
            (
                0o555,
                0o666,
                (
                    r"cannot be opened for writing; let user \d+ write it and make files in its "
                    r"directory"
                ),
            ),
        ],
    )
    async def test_missing_rights(
        self, directory_mode: int, file_mode: int | None, problem: str
    ) -> None:
        # pytest's own are closed to other users, and root has every right
        directory = Path(tempfile.mkdtemp())
        try:
            path = directory / "checkpoint.db"
            if file_mode is not None:
                await (await open_sqlite_checkpoint(path, TARGET)).aclose()
                path.chmod(file_mode)
            directory.chmod(directory_mode)
            with ordinary_user(), pytest.raises(SetupFault, match=problem) as caught:
                await open_sqlite_checkpoint(path, TARGET)
            assert str(path) in str(caught.value)
            assert not [file.name for file in directory.iterdir() if ".owner-" in file.name]
        finally:
            directory.chmod(0o700)
            shutil.rmtree(directory)

    async def test_a_file_system_without_file_locks(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", refuse)

        with pytest.raises(
            SetupFault, match=r"No locks available \(file lock\); .* which must be on a local disk"
        ):
            await open_sqlite_checkpoint(path, TARGET)

        assert [file.name for file in path.parent.iterdir()] == ["checkpoint.db"]

    def test_nothing_stays_open(self, path: Path) -> None:
        make_newer(path)
        database = Database(path, TARGET, busy_seconds=0)

        with pytest.raises(SetupFault):
            database.open()

        assert not [target for target in open_files() if target.startswith(str(path))]

    async def test_opening_is_cancelled(self, path: Path) -> None:
        with locked_by_another_program(path):
            opening = asyncio.create_task(open_sqlite_checkpoint(path, TARGET))
            await asyncio.sleep(0)
            opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

        assert [file.name for file in path.parent.iterdir()] == ["checkpoint.db"]

    async def test_a_file_that_another_program_keeps_locked(self, start: Start, path: Path) -> None:
        await start()

        with (
            locked_by_another_program(path),
            pytest.raises(SetupFault, match=r"locked for more than 0\.2 s; end it"),
        ):
            await start()

        await start()


class TestWal:
    """SQLite itself does not wait for a transaction under way before it changes the mode of a new
    file.
    """

    def test_it_is_turned_on_once_another_process_has_finished(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = Database(path, TARGET, busy_seconds=60)
        with (
            contextlib.closing(sqlite3.connect(path)) as ours,
            contextlib.closing(sqlite3.connect(path)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(
                "daemon.checkpoint.sqlite.database.time.sleep", lambda _seconds: other.rollback()
            )

            database._use_wal(ours)

            assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_it_does_not_wait_for_ever(self, path: Path) -> None:
        database = Database(path, TARGET, busy_seconds=0.05)
        ours = sqlite3.connect(path)
        with (
            contextlib.closing(ours),
            locked_by_another_program(path),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            database._use_wal(ours)

    def test_a_file_system_without_shared_memory_is_refused(self, path: Path) -> None:
        database = Database(path, TARGET, busy_seconds=0)
        in_memory = sqlite3.connect(":memory:")
        with (
            contextlib.closing(in_memory),
            pytest.raises(SetupFault, match=r"set checkpoint\.path to a file on a local disk"),
        ):
            database._use_wal(in_memory)


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestBrokenStorage:
    async def test_every_member_of_the_batch_hears_of_it_and_nothing_happened(
        self, checkpoint: SqliteCheckpoint, path: Path
    ) -> None:
        with locked_by_another_program(path):
            faults = await asyncio.gather(
                *(checkpoint.claim(arn_of(n), LEASE) for n in range(3)), return_exceptions=True
            )

        assert len({id(fault) for fault in faults}) == 3
        for fault in faults:
            assert isinstance(fault, EdgeFault)
            assert (fault.edge, fault.reason, fault.curable) == (
                Edge.CHECKPOINT,
                Reason.STORAGE,
                True,
            )
            assert fault.detail.startswith(
                f"checkpoint {path}: another program has kept the file locked for more than 0.2 s"
            )
        assert [type(await checkpoint.claim(arn_of(n), LEASE)) for n in range(3)] == [Claim] * 3

    async def test_a_full_disk(self, checkpoint: SqliteCheckpoint) -> None:
        claim = await claimed(checkpoint)
        await begin(checkpoint, claim)

        def fill_up(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA max_page_count = 1")

        await checkpoint._write(fill_up)
        results = await asyncio.gather(
            synced(checkpoint, claim),
            checkpoint.keep_body("m-1", "x" * 100_000),
            return_exceptions=True,
        )

        assert [str(result).partition(" (SQLite")[0] for result in results] == [
            (
                f"checkpoint: storage: checkpoint {checkpoint._database.path}: the disk is full; "
                "free some space"
            )
        ] * 2
        assert (await row(checkpoint)).state is JobState.WRITING
        await synced(checkpoint, claim)
        assert (await row(checkpoint)).state is JobState.SYNCED

    async def test_a_probe_writes(self, checkpoint: SqliteCheckpoint, path: Path) -> None:
        await checkpoint.probe()
        with locked_by_another_program(path), pytest.raises(EdgeFault):
            await checkpoint.probe()
        await checkpoint.probe()

    async def test_a_deleted_file_is_noticed_by_every_call_and_comes_back(
        self, checkpoint: SqliteCheckpoint, path: Path
    ) -> None:
        claim = await claimed(checkpoint)
        aside = path.with_name("aside.db")
        path.rename(aside)

        with pytest.raises(EdgeFault, match="deleted or replaced while it was in use; put it back"):
            await checkpoint.probe()
        for call in (checkpoint.probe(), checkpoint.job(MARK), begin(checkpoint, claim)):
            with pytest.raises(EdgeFault, match="the file is gone; put it back"):
                await call
        assert not path.exists()

        aside.rename(path)
        await begin(checkpoint, claim)

    async def test_a_file_deleted_during_a_commit_is_noticed_before_the_answer(
        self, checkpoint: SqliteCheckpoint, path: Path
    ) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            path.unlink()

        with pytest.raises(EdgeFault, match="deleted or replaced"):
            await checkpoint._write(delete)

    async def test_a_replaced_file_is_never_mixed_up_with_the_old_one(
        self, start: Start, path: Path, clock: FakeClock
    ) -> None:
        old = await start()
        claim = await claimed(old)
        await begin(old, claim)
        path.unlink()
        clock.now += 5
        new = await start()
        await synced(new, await claimed(new, arn_of(1)), mark_of(1))

        with pytest.raises(EdgeFault, match="deleted or replaced"):
            await synced(old, claim)
        with pytest.raises(LeaseLost):
            await synced(old, claim)

        assert (old.created_at, await old.job(mark_of(1))) == (clock.now, await new.job(mark_of(1)))
        await old.probe()
        await new.probe()
        check = await new._read(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0]
        )
        assert check == "ok"

    async def test_a_file_replaced_by_something_else(
        self, checkpoint: SqliteCheckpoint, path: Path
    ) -> None:
        path.unlink()
        make_newer(path)

        with pytest.raises(EdgeFault, match="deleted or replaced"):
            await checkpoint.probe()
        with pytest.raises(EdgeFault, match="written by a newer version"):
            await checkpoint.probe()

    async def test_closing_works_when_the_storage_does_not(self, start: Start, path: Path) -> None:
        first = await start()
        await claimed(first)
        with locked_by_another_program(path):
            await first.aclose()
        # Its claims are still there, but everybody can tell that it is gone.
        second = await start()
        await claimed(second)

        path.unlink()
        await second.aclose()
