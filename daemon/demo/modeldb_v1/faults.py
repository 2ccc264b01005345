"""What can go wrong with the ModelDB V1 stand-in while it runs: as much as the demo shows.

The tests derive a switchboard with more from it (tests/support/modeldb_v1_stand_in.py).
"""

from __future__ import annotations

import asyncio

from daemon.demo.modeldb_v1.store import ServerError, database_error

_SELECTORS = {
    True: "WritableServerSelector",
    False: "ReadPreferenceServerSelector{readPreference=primary}",
}


class Faults:
    """Every switch is off at first.

    Args:
        has_mongo: False: the server was set up without MongoDB, which therefore never answers.
        mongo_timeout_seconds: how long the server looks for a MongoDB that is gone.
        storage_busy_seconds: how long it waits for a locked database.

    Attributes:
        storage_busy: what needs SQLite does nothing and fails with SQLITE_BUSY.
    """

    def __init__(
        self, *, has_mongo: bool, mongo_timeout_seconds: float, storage_busy_seconds: float
    ) -> None:
        self.storage_busy = False
        self.mongo_timeout_seconds = mongo_timeout_seconds
        self.storage_busy_seconds = storage_busy_seconds
        self._has_mongo = has_mongo
        self._to_lose: set[str] = set()

    def lose_next_answer(self, method: str) -> None:
        """The next call of a method is carried out and its connection closed unanswered."""
        self._to_lose.add(method)

    def loses_answer(self, method: str) -> bool:
        """Whether this call's answer is to be lost; asked once for each call."""
        lost = method in self._to_lose
        self._to_lose.discard(method)
        return lost

    async def reach_mongo(self, *, to_write: bool) -> None:
        """Raises `ServerError` when MongoDB does not answer."""
        if not self._has_mongo:
            await asyncio.sleep(self.mongo_timeout_seconds)
            raise mongo_timeout(to_write=to_write)

    async def reach_storage(self, statement: str) -> None:
        """Raises `ServerError`, with the statement in its text, while the database is locked."""
        if self.storage_busy:
            await asyncio.sleep(self.storage_busy_seconds)
            raise database_error(
                statement, "[SQLITE_BUSY]  The database file is locked (database is locked)"
            )


def mongo_timeout(*, to_write: bool) -> ServerError:
    """The server's error when it has looked for MongoDB in vain."""
    return ServerError(
        "MongoTimeoutException: Timed out after 30000 ms while waiting for a server that matches "
        f"{_SELECTORS[to_write]}. Client view of cluster state is {{type=UNKNOWN, "
        "servers=[{address=127.0.0.1:1, type=UNKNOWN, state=CONNECTING, "
        "exception={com.mongodb.MongoSocketOpenException: Exception opening socket}, caused by "
        "{java.net.ConnectException: Connection refused}}]"
    )
