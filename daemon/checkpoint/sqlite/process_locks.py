"""Liveness of the processes that share a database: each holds an flock on a file of its own beside
it.

The kernel frees the lock however the process ends, so a lock that can be taken proves that its
owner is gone. That holds on one host (as SQLite's WAL does), and across containers that share the
kernel. An owner whose file is missing or cannot be opened is not known to be gone: its leases
decide.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.owners import new_owner
from daemon.checkpoint.sqlite import request_rows, writer_lease_rows
from daemon.clock import wall

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def _lock_file(database: Path, owner: str) -> Path:
    return database.with_name(f"{database.name}.owner-{owner}")


@dataclass(frozen=True, slots=True)
class _Lock:
    path: Path
    descriptor: int

    @classmethod
    def create(cls, database: Path, owner: str) -> _Lock:
        """Creates the lock file of this process. It gets its name after it is locked, so nobody
        ever sees it free.

        Raises:
            OSError: the directory cannot be written, or its file system has no flock.
        """
        path = _lock_file(database, owner)
        nameless = database.with_name(f"{database.name}.new-{owner}")
        descriptor = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            nameless.rename(path)
        except BaseException:
            nameless.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def of_gone(cls, database: Path, owner: str) -> _Lock | None:
        """The lock of a process that is gone, taken; None: the process is not known to be gone."""
        path = _lock_file(database, owner)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def close(self) -> None:
        os.close(self.descriptor)

    def remove(self) -> None:
        # a file that stays does no harm: the next start removes it
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()


def release_all_of(connection: sqlite3.Connection, owner: str) -> None:
    """Releases the claims, name locks and requests of an owner that ends or is gone, and ends its
    writer leases.
    """
    connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
    now = wall()
    request_rows.end_leases_of(connection, owner, now=now)
    for held in writer_lease_rows.of_owner(connection, owner):
        writer_lease_rows.put(connection, rules.end_writer_lease(held, now=now))


class ProcessLocks:
    """This process and the others with the same database.

    `release_if_gone` and `release_all_gone` are called within a write transaction, so that one
    process at a time asks who is alive. The lock files of owners that are gone are removed when
    that transaction is durable (`committed`): while a lock file stays, the next process asks again.
    """

    def __init__(self, database: Path) -> None:
        """Marks this process as alive.

        Raises:
            OSError: its lock file cannot be created.
        """
        self.me = new_owner()
        self._database = database
        self._mine = _Lock.create(database, self.me)
        self._gone: list[_Lock] = []

    def release_if_gone(self, connection: sqlite3.Connection, owner: str) -> bool:
        """Whether an owner is known to be gone; then as `release_all_of`."""
        if owner == self.me:
            return False
        lock = _Lock.of_gone(self._database, owner)
        if lock is None:
            return False
        self._gone.append(lock)
        release_all_of(connection, owner)
        return True

    def release_all_gone(self, connection: sqlite3.Connection) -> None:
        """`release_if_gone` for every owner that left a lock file."""
        prefix = _lock_file(self._database, "").name
        for file in self._database.parent.iterdir():
            if file.name.startswith(prefix):
                self.release_if_gone(connection, file.name.removeprefix(prefix))

    @property
    def released(self) -> int:
        """How many owners this transaction has found gone so far."""
        return len(self._gone)

    def committed(self) -> None:
        while self._gone:
            self._gone.pop().remove()

    def rolled_back(self, to: int = 0) -> None:
        """The transaction, or its part after the first `to` released owners, did not happen."""
        while len(self._gone) > to:
            self._gone.pop().close()

    def leave(self, *, claims_released: bool) -> None:
        """Ends the proof of life, once. While claims of this process are left, its lock file stays,
        so that the next process can release them at once.
        """
        if claims_released:
            self._mine.remove()
        else:
            self._mine.close()
