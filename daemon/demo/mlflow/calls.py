"""What the calls of MLflow's REST API do: the parts that all of them share."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow.replies import TEMPORARILY_UNAVAILABLE, ServerError, invalid
from daemon.demo.mlflow.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.demo.mlflow.checks import Checks
    from daemon.demo.mlflow.names import Columns
    from daemon.demo.mlflow.parsing import Fields, Message

ADMIN = "admin"
"""The user who may do everything."""
DATABASE_GONE = (
    '(psycopg2.OperationalError) connection to server at "127.0.0.1", port 5432 failed: '
    "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?\n\n"
    "(Background on this error at: https://sqlalche.me/e/21/e3q8)"
)


@dataclass(slots=True)
class Database:
    """The server's side of a call.

    Attributes:
        modern: 3.x rather than 2.x.
        user: who calls, of a server with logins.
        deny: raises for an experiment or model that this user may not change, by its owner.
        written: called after each write.
    """

    modern: bool
    columns: Columns
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    writes: Store = field(default_factory=Store)
    """What is written, and read by writing calls."""
    replica: Store | None = None
    """What reading calls see, if that is not the same."""
    down: bool = False
    user: str = ""
    check_owner: Callable[[str], None] = lambda _owner: None

    def open(self) -> Store:
        """For a call that writes.

        Raises:
            ServerError: TEMPORARILY_UNAVAILABLE.
        """
        if self.down:
            raise ServerError(TEMPORARILY_UNAVAILABLE, DATABASE_GONE)
        return self.writes

    def read(self) -> Store:
        """For a call that reads; what it sees may be behind."""
        store = self.open()
        return store if self.replica is None else self.replica


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API.

    Attributes:
        methods: the verbs it has.
        batch: whether its body is measured before it is read.
    """

    methods: Sequence[str]
    fields: Fields
    checks: Checks
    perform: Callable[[Database, Message], dict[str, Any]]
    batch: bool = False


def tag_values(message: Message) -> list[tuple[str, str]]:
    """The tags of a message as they came, what is absent as ""."""
    return [(tag.get("key", ""), tag.get("value", "")) for tag in message.get("tags", ())]


def take_page(
    items: Sequence[Any], message: Message, max_results: int
) -> tuple[Sequence[Any], dict[str, Any]]:
    """One page of a search.

    Returns:
        Its items; the members of the answer that lead to the next page.
    """
    offset = _offset(message.get("page_token", ""))
    page = items[offset : offset + max_results]
    if offset + max_results >= len(items):
        return page, {}
    token = base64.b64encode(json.dumps({"offset": offset + max_results}).encode())
    return page, {"next_page_token": token.decode()}


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.b64decode(token))["offset"])
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("Invalid page token, decoded value is not valid JSON") from error


def listed(name: str, items: Sequence[Any]) -> dict[str, Any]:
    """A repeated member, which is not printed when it is empty."""
    return {name: list(items)} if items else {}
