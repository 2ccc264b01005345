"""What can go wrong with the MLflow stand-in while it runs: as much as the demo shows.

The tests derive a switchboard with more from it (tests/support/mlflow_stand_in.py).
"""

from __future__ import annotations


class Faults:
    """Every switch is off at first.

    Attributes:
        database_down: every call that uses the database gets 503 TEMPORARILY_UNAVAILABLE.
        database_answer_seconds: how long the server takes to find that out; the real one answers at
            once when the database refuses its connections.
    """

    def __init__(self) -> None:
        self.database_down = False
        self.database_answer_seconds = 0.0
        self._to_lose: set[str] = set()

    def lose_next_answer(self, operation: str) -> None:
        """The next call of an operation is carried out and its connection closed unanswered."""
        self._to_lose.add(operation)

    def loses_answer(self, operation: str) -> bool:
        """Whether this call's answer is to be lost; asked once for each call."""
        lost = operation in self._to_lose
        self._to_lose.discard(operation)
        return lost
