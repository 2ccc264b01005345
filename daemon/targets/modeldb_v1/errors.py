"""Classification of failed calls.

The server declares few exceptions and puts Java errors into their messages. Only the telling words
are matched, never whole messages.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.codec import INTERNAL_ERROR, UNKNOWN_METHOD, ApplicationException
from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

DETAIL_CHARACTERS = 500


class CallErrorKind(StrEnum):
    """Why a call failed; also the value of the metrics' label `result`."""

    UNREACHABLE = "unreachable"  # no connection, connection lost, or no answer in time
    NOT_THE_API = "not_the_api"  # not ModelDB V1's protocol, or not its methods
    STORAGE = "storage"  # the server's SQLite is locked, full, read-only, failing
    SCHEMA_MISSING = "schema_missing"  # its database has no tables
    # its MongoDB does not answer; what goes into SQL is stored
    METADATA_STORE_DOWN = "metadata_store_down"
    UNKNOWN_RUN = "unknown_run"
    NOT_FOUND = "not_found"
    TWIN_ROWS = "twin_rows"  # two rows where there must be one
    OTHER_WRITER = "other_writer"  # rows of two writers got mixed up
    OTHER_DATABASE = "other_database"  # MongoDB has documents of another SQLite file
    BAD_VALUE = "bad_value"  # a value that the server cannot store
    TOO_LARGE = "too_large"  # a frame that the server does not accept
    NOT_WRITER = "not_writer"  # this process does not hold the writer lease
    UNKNOWN = "unknown"


class CallFailed(Exception):
    """A call that has no result.

    Args:
        kind: why it failed.
        method: of the interface; ``connect`` if there is no connection.
        detail: the reason; reduced to one line of at most `DETAIL_CHARACTERS`. It must not contain
            values that were sent.
        answered: the server itself reported the failure. False: the outcome is unknown, unless
            nothing was sent.
        sent: False: the call never left this process, so it had no effect.
        unforeseen: an answer of a kind that may be the only one, unlike another server's; waiting
            may help.
    """

    def __init__(
        self,
        kind: CallErrorKind,
        method: str,
        detail: str,
        *,
        answered: bool = False,
        sent: bool = True,
        unforeseen: bool = False,
    ) -> None:
        printable = "".join(letter if letter.isprintable() else " " for letter in detail)
        detail = shortened(" ".join(printable.split()), DETAIL_CHARACTERS)
        super().__init__(f"{method}: {detail}")
        self.kind = kind
        self.method = method
        self.detail = detail
        self.answered = answered
        self.sent = sent
        self.unforeseen = unforeseen


_OTHER_WRITER_COLUMNS = (
    "spec|transformerSpec|transformer|df|dfId|metadataKvId|eventId|experimentRun|experiment|project"
)
"""Columns of ids that the server itself looks up."""

_WORDS: Sequence[tuple[re.Pattern[str], CallErrorKind]] = tuple(
    (re.compile(words, re.DOTALL), kind)
    for words, kind in (
        (r"Mongo", CallErrorKind.METADATA_STORE_DOWN),
        (
            r"(JSON|Json)ParseException|Bson\w+Exception|IllegalArgumentException|ClassCastException|NumberFormatException",
            CallErrorKind.BAD_VALUE,
        ),
        (r"TooManyRowsException", CallErrorKind.TWIN_ROWS),
        # the rows that the server had just written were missing
        (r"NullPointerException", CallErrorKind.OTHER_WRITER),
        (
            r".*\[SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|CORRUPT|NOTADB|NOMEM)",
            CallErrorKind.STORAGE,
        ),
        (r".*\bno such table\b", CallErrorKind.SCHEMA_MISSING),
        (
            rf".*\[SQLITE_CONSTRAINT_NOTNULL\].*\.({_OTHER_WRITER_COLUMNS})\b",
            CallErrorKind.OTHER_WRITER,
        ),
        (r".*\[SQLITE_CONSTRAINT_NOTNULL\]", CallErrorKind.BAD_VALUE),
    )
)
"""Patterns for the beginning of a message; the first match counts."""

_ECHOES = re.compile(r"((?:JSON|Json)ParseException|NumberFormatException)\b")
"""Errors whose messages repeat what was sent."""

_STATEMENT = re.compile(r"SQL \[.*?\]; ", re.DOTALL)
"""Long, useless to operators, and it may contain values."""

_BY_EXCEPTION = {
    "InvalidExperimentRunException": CallErrorKind.UNKNOWN_RUN,
    "ResourceNotFoundException": CallErrorKind.NOT_FOUND,
    "InvalidFieldException": CallErrorKind.NOT_FOUND,
}


def classify(exception: Any, method: str) -> CallFailed:  # noqa: ANN401 - an exception of the interface has no type of its own
    """Classifies an exception that the server returned.

    Args:
        exception: as in `daemon.targets.modeldb_v1.codec.Reply`.
        method: the method called.

    Returns:
        The error for the caller to raise.
    """
    if isinstance(exception, ApplicationException):
        return _of_application(exception, method)
    name, message = type(exception).__name__, _STATEMENT.sub("", exception.message or "")
    kind = _BY_EXCEPTION.get(name)
    if kind is None:
        kind = next((kind for words, kind in _WORDS if words.match(message)), CallErrorKind.UNKNOWN)
    echo = _ECHOES.match(message)
    return CallFailed(kind, method, (echo[1] if echo else message) or name, answered=True)


def _of_application(exception: ApplicationException, method: str) -> CallFailed:
    if exception.number == UNKNOWN_METHOD:
        detail = f"the server does not know the method ({exception.message}); it is not ModelDB V1"
        return CallFailed(CallErrorKind.NOT_THE_API, method, detail, answered=True)
    # undeclared: the rows that the server had just written were missing
    if exception.number == INTERNAL_ERROR:
        return CallFailed(
            CallErrorKind.OTHER_WRITER,
            method,
            exception.message or "an internal error of the server",
            answered=True,
        )
    detail = (
        f"the server could not read the call ({exception.message or 'no reason given'}; Thrift's "
        f"error {exception.number})"
    )
    return CallFailed(CallErrorKind.UNKNOWN, method, detail, answered=True)
