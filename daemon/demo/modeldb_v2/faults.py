"""What can go wrong with the ModelDB V2 stand-in while it runs: as much as the demo shows.

The tests derive a switchboard with more from it (tests/support/modeldb_v2_stand_in.py).
"""

from __future__ import annotations

import asyncio

from daemon.demo.modeldb_v2.messages import INTERNAL, ApiError

_NO_DATABASE = "UNAVAILABLE: UNAVAILABLE: DB connection not found after 2560 millisecond"


class Faults:
    """Every switch is off at first.

    Attributes:
        database_down: every call but verifyConnection gets 500 with code 13.
        database_answer_seconds: how long the server takes to find that out.
    """

    def __init__(self) -> None:
        self.database_down = False
        self.database_answer_seconds = 5.1
        self._to_lose: set[str] = set()

    def lose_next_answer(self, operation: str) -> None:
        """The next call of an operation is carried out and its connection closed unanswered."""
        self._to_lose.add(operation)

    def loses_answer(self, operation: str) -> bool:
        """Whether this call's answer is to be lost; asked once for each call."""
        lost = operation in self._to_lose
        self._to_lose.discard(operation)
        return lost

    def reach_backend(self, service: str) -> None:
        """Raises `ApiError` when the proxy cannot reach the back-end for a service."""

    async def reach_database(self) -> None:
        """Raises `ApiError` when the database is down."""
        if self.database_down:
            await asyncio.sleep(self.database_answer_seconds)
            raise ApiError(INTERNAL, _NO_DATABASE)
