"""The SQLite file of the checkpoint: its one connection, and transactions of many operations.

Everything here blocks and belongs to one thread. A storage error closes the connection; the next
transaction opens the file again, so the checkpoint recovers when the cause is gone.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from daemon.checkpoint import rules
from daemon.checkpoint.sqlite.process_locks import ProcessLocks, release_all_of
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Edge, Reason
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.targets.place import TargetPlace

T_co = TypeVar("T_co", covariant=True)

_CLOSING_BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Operation(Generic[T_co]):
    """One step of a transaction. It happens as a whole, or raises and changes nothing."""

    run: Callable[[sqlite3.Connection], T_co]
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation returned, or what it raised."""

    value: Any = None
    error: Exception | None = None


def clock_ahead() -> float:
    """Seconds by which the wall clock is ahead of the monotonic one: changes if it is set."""
    return wall() - monotonic()


class _FileReplacedError(Exception):
    """The open file was deleted or replaced."""


_STORAGE_ERRORS = (sqlite3.Error, OSError, _FileReplacedError, SetupFault)


class Database:
    """One SQLite file, open for the life of the process.

    Args:
        path: of the file; symbolic links are resolved once, now.
        target: as `daemon.checkpoint.registry.open_checkpoint`.
        busy_seconds: how long a transaction waits for one of another process.
    """

    def __init__(
        self,
        path: Path,
        target: TargetPlace,
        *,
        busy_seconds: float,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.target = target
        self.created_at = 0.0
        self.opened_at = 0.0
        self._ahead = clock_ahead()
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._owners: ProcessLocks | None = None

    @property
    def owners(self) -> ProcessLocks:
        """Available from `open` on."""
        if self._owners is None:
            raise RuntimeError("the database was never opened")
        return self._owners

    def open(self) -> None:
        """Creates the file where there is none, checks it, migrates it, and releases what owners
        that are gone held.

        Raises:
            SetupFault: it cannot be used; the text says why and what to do. Nothing stays open.
        """
        try:
            self._make_file()
            self._connect(check=True)
            self._owners = ProcessLocks(self.path)
            for answer in self.apply(
                [Operation(self._owners.release_all_gone), Operation(self.prove_writable)]
            ):
                if answer.error is not None:
                    raise answer.error
        except (EdgeFault, *_STORAGE_ERRORS) as error:
            fault = SetupFault(self._explain(error))
            self._give_up()
            if self._owners is not None:
                self._owners.leave(claims_released=True)  # it had none
                self._owners = None
            raise fault from error

    def apply(self, operations: Sequence[Operation[Any]]) -> list[Answer]:
        """Carries out operations in one transaction and returns their answers when it is durable.

        An operation that raises is rolled back alone, and its error is its answer.

        Raises:
            EdgeFault: the storage failed; whether the transaction was committed is unknown.
        """
        try:
            connection = self._ready()
            connection.execute(
                "BEGIN IMMEDIATE" if any(operation.writes for operation in operations) else "BEGIN"
            )
            ahead = self._ahead
            if any(operation.writes for operation in operations):
                ahead = self._mind_the_clock(connection)
            answers = [self._answer(connection, operation) for operation in operations]
            connection.execute("COMMIT")
            self._ahead = ahead
            self._require_same_file()
        except _STORAGE_ERRORS as error:
            self._give_up()
            raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, self._explain(error)) from error
        self.owners.committed()
        return answers

    def prove_writable(self, connection: sqlite3.Connection) -> None:
        """An operation that always writes: only a write finds a read-only file or a full disk."""
        connection.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('probed_at', ?)", (wall(),)
        )

    def close(self) -> None:
        """Releases all that this process holds and closes the file; ignores storage failures."""
        if self._owners is not None:
            claims_released = self._release_own(self._owners)
            self._owners.leave(claims_released=claims_released)
            self._owners = None
        self._give_up()

    def _release_own(self, owners: ProcessLocks) -> bool:
        self._busy_seconds = min(self._busy_seconds, _CLOSING_BUSY_SECONDS)
        release = Operation(lambda connection: release_all_of(connection, owners.me))
        try:
            connection = self._ready()
            connection.execute(f"PRAGMA busy_timeout = {self._busy_seconds * 1000:.0f}")
            self.apply([release])
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except (EdgeFault, *_STORAGE_ERRORS):
            return False
        return True

    def _answer(self, connection: sqlite3.Connection, operation: Operation[Any]) -> Answer:
        released = self.owners.released
        if operation.writes:
            connection.execute("SAVEPOINT operation")
        try:
            answer = Answer(value=operation.run(connection))
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - its caller's, not the whole transaction's
            if operation.writes:
                connection.execute("ROLLBACK TO operation")
            self.owners.rolled_back(to=released)
            answer = Answer(error=error)
        if operation.writes:
            connection.execute("RELEASE operation")
        return answer

    def _make_file(self) -> None:
        """Creates directory and file where they are missing, for this user alone: the file may
        contain bodies of messages.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # An existing file is not opened here: closing it would drop SQLite's locks on it in this
        # process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise SetupFault(
                f"checkpoint {self.path}: is not a regular file; set checkpoint.path to the path "
                "of a file"
            )

    def _connect(self, *, check: bool) -> sqlite3.Connection:
        self._file_id = self._identity()
        # mode=rw: SQLite must not create the file, since it would not create it with mode 0600.
        self._connection = connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")  # a name lock ends with its claim
        connection.execute("PRAGMA cache_size = -500")  # kB; a claim needs a few pages
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode: one fsync per commit
        if check:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                damaged = sqlite3.DatabaseError(verdict)
                damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damaged
        migrate(connection, self.path, wall(), MIGRATIONS)
        self._use_wal(connection)
        self.created_at = self._created_at(connection)
        self.opened_at = wall()
        self._require_same_file()
        return connection

    def _created_at(self, connection: sqlite3.Connection) -> float:
        """As in `daemon.checkpoint.ports.Checkpoint`; without a target, when the file was made."""
        if self.target == ANY_TARGET:
            found = connection.execute("SELECT value FROM meta WHERE name = 'created_at'")
            return float(found.fetchone()[0])
        key = (self.target.kind, self.target.place)
        connection.execute("BEGIN IMMEDIATE")  # processes that begin together agree
        row = connection.execute(
            "SELECT created_at FROM targets WHERE (target, place) = (?, ?)", key
        ).fetchone()
        (last_used_at,) = connection.execute(
            "SELECT max(value) FROM (SELECT value FROM meta UNION ALL "
            "SELECT max(updated_at) FROM jobs UNION ALL SELECT max(created_at) FROM targets)"
        ).fetchone()
        recorded = None if row is None else float(row[0])
        created_at = rules.created_at(recorded, last_used_at=last_used_at, now=wall())
        if created_at != recorded:
            self._put_created_at(connection, created_at)
        connection.execute("COMMIT")
        return created_at

    def _put_created_at(self, connection: sqlite3.Connection, created_at: float) -> None:
        key = (self.target.kind, self.target.place)
        connection.execute("INSERT OR REPLACE INTO targets VALUES (?, ?, ?)", (*key, created_at))

    def _mind_the_clock(self, connection: sqlite3.Connection) -> float:
        """After the wall clock was set it is not known when the target was first used. Returns what
        the clock is ahead by.
        """
        ahead = clock_ahead()
        if abs(ahead - self._ahead) > rules.CLOCK_JUMP_SECONDS and self.target != ANY_TARGET:
            self.created_at = self.opened_at = wall()
            self._put_created_at(connection, self.created_at)
        return ahead

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = monotonic() + self._busy_seconds
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                # SQLite's busy timeout does not apply while another process opens the same new file
                if _primary_code(error) != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise SetupFault(
                    f"checkpoint {self.path}: this file system cannot share memory between "
                    "processes, which SQLite's WAL mode needs; set checkpoint.path to a file on a "
                    "local disk"
                )
            return

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            return self._connect(check=False)
        self._require_same_file()
        return self._connection

    def _identity(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _require_same_file(self) -> None:
        try:
            same = self._identity() == self._file_id
        except FileNotFoundError:
            same = False
        if not same:
            raise _FileReplacedError

    def _give_up(self) -> None:
        """Closes the connection, which rolls back an open transaction."""
        if self._owners is not None:
            self._owners.rolled_back()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _explain(self, error: Exception) -> str:
        match error:
            case SetupFault():
                return str(error)
            case EdgeFault():
                return error.detail
            case FileNotFoundError() if self._owners is not None:
                problem = "the file is gone; put it back, or restart the program to begin a new one"
            case _FileReplacedError():
                problem = (
                    "the file was deleted or replaced while it was in use; put it back, or restart "
                    "the program to continue with what is there now"
                )
            case OSError():
                problem = (
                    f"{error.strerror} ({error.filename or 'file lock'}); let user {os.geteuid()} "
                    "make, lock and list files in its directory, which must be on a local disk"
                )
            case _:
                problem = f"{_advice(error, self._busy_seconds)} (SQLite: {error})"
        return f"checkpoint {self.path}: {problem}"


def _primary_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _advice(error: Exception, busy_seconds: float) -> str:
    match _primary_code(error):
        case sqlite3.SQLITE_FULL:
            return "the disk is full; free some space"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                f"another program has kept the file locked for more than {busy_seconds:g} s; end it"
            )
        case (
            sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_AUTH
        ):
            return (
                f"the file cannot be opened for writing; let user {os.geteuid()} write it and make "
                "files in its directory"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return (
                "the file is damaged or no SQLite database; restore a backup, or move it away with "
                "its -wal and -shm files to begin a new one: jobs already in the target are found "
                "there"
            )
        case _:
            return "the storage failed; look at the disk, its free space and the kernel's log"
