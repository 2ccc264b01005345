"""Classification of every recorded error, and of those that the server's sources name."""

from __future__ import annotations

from collections import Counter

import pytest

from daemon.targets.modeldb_v1.codec import INTERFACE, ApplicationException, decode_reply
from daemon.targets.modeldb_v1.errors import DETAIL_CHARACTERS, CallErrorKind, CallFailed, classify
from tests.support.modeldb_v1_exchanges import load

SQL = "DataAccessException: SQL [insert into HyperParameter (spec) values (?)\nreturning *]; "
NOT_NULL = (
    SQL
    + "[SQLITE_CONSTRAINT_NOTNULL]  A NOT NULL constraint failed (NOT NULL constraint failed: {})"
)


def of_text(message: str | None, method: str = "storeFitEvent") -> CallFailed:
    return classify(INTERFACE.ServerLogicException(message), method)


def test_every_recorded_exception_means_something() -> None:
    kinds: Counter[CallErrorKind] = Counter()
    for exchange in load():
        if "exception" in exchange.response and exchange.response_frame is not None:
            reply = decode_reply(exchange.response_frame)
            failed = classify(reply.exception, reply.method)
            assert (failed.method, failed.answered, failed.sent) == (reply.method, True, True)
            assert failed.detail
            kinds[failed.kind] += 1
    assert kinds == {
        CallErrorKind.OTHER_WRITER: 42,
        CallErrorKind.BAD_VALUE: 33,
        CallErrorKind.NOT_FOUND: 6,
        CallErrorKind.UNKNOWN: 8,  # ids and columns that we never choose
        CallErrorKind.UNKNOWN_RUN: 8,
        CallErrorKind.METADATA_STORE_DOWN: 5,
        CallErrorKind.TWIN_ROWS: 6,
        CallErrorKind.STORAGE: 4,
        CallErrorKind.NOT_THE_API: 2,
    }


def test_what_clients_saw_while_several_wrote_at_once_is_recognised() -> None:
    replies = [
        decode_reply(exchange.response_frame or b"")
        for exchange in load()
        if exchange.file == "race"
    ]
    failed = [
        classify(reply.exception, reply.method).kind
        for reply in replies
        if reply.exception is not None
    ]
    assert failed == [CallErrorKind.OTHER_WRITER] * 14


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("MongoTimeoutException: Timed out after 30000 ms", CallErrorKind.METADATA_STORE_DOWN),
        (
            "MongoSocketReadException: Prematurely reached end of stream",
            CallErrorKind.METADATA_STORE_DOWN,
        ),
        ("MongoSocketOpenException: Exception opening socket", CallErrorKind.METADATA_STORE_DOWN),
        ("MongoNotPrimaryException: not master", CallErrorKind.METADATA_STORE_DOWN),
        (
            SQL + "[SQLITE_BUSY]  The database file is locked (database is locked)",
            CallErrorKind.STORAGE,
        ),
        (
            SQL + "[SQLITE_BUSY_SNAPSHOT]  Another database connection has already written",
            CallErrorKind.STORAGE,
        ),
        (SQL + "[SQLITE_FULL]  Insertion failed because database is full", CallErrorKind.STORAGE),
        (SQL + "[SQLITE_IOERR]  Some kind of disk I/O error occurred", CallErrorKind.STORAGE),
        (SQL + "[SQLITE_IOERR_WRITE]  disk I/O error", CallErrorKind.STORAGE),
        (SQL + "[SQLITE_READONLY]  Attempt to write a readonly database", CallErrorKind.STORAGE),
        (
            SQL + "[SQLITE_ERROR] SQL error or missing database (no such table: Project)",
            CallErrorKind.SCHEMA_MISSING,
        ),
        (
            SQL + "[SQLITE_ERROR] SQL error or missing database (no such column: owner)",
            CallErrorKind.UNKNOWN,
        ),
        (
            SQL + "[SQLITE_CONSTRAINT_PRIMARYKEY]  A PRIMARY KEY constraint failed",
            CallErrorKind.UNKNOWN,
        ),
        (NOT_NULL.format("HyperParameter.spec"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("DataFrameMetadata.dfId"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("DataFrameMetadata.metadataKvId"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("FitEvent.transformer"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("FitEvent.transformerSpec"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("MetricEvent.df"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("Event.eventId"), CallErrorKind.OTHER_WRITER),
        (NOT_NULL.format("MetricEvent.metricValue"), CallErrorKind.BAD_VALUE),
        (NOT_NULL.format("MetricEvent.metricType"), CallErrorKind.BAD_VALUE),
        (NOT_NULL.format("HyperParameter.paramValue"), CallErrorKind.BAD_VALUE),
        (NOT_NULL.format("MetadataKV.value"), CallErrorKind.BAD_VALUE),
        (NOT_NULL.format("TransformerSpec.transformerType"), CallErrorKind.BAD_VALUE),
        ("TooManyRowsException: Cursor returned more than one result", CallErrorKind.TWIN_ROWS),
        ("NullPointerException: null", CallErrorKind.OTHER_WRITER),
        (
            (
                'NullPointerException: Cannot invoke "java.lang.Integer.intValue()" because "id" '
                "is null"
            ),
            CallErrorKind.OTHER_WRITER,
        ),
        ("IllegalArgumentException: Invalid BSON field name a.b", CallErrorKind.BAD_VALUE),
        ("BsonSerializationException: BSON cstring is not valid", CallErrorKind.BAD_VALUE),
        ("JSONParseException: {[SQLITE_FULL]\n^", CallErrorKind.BAD_VALUE),
        ("ClassCastException: class java.lang.String cannot be cast", CallErrorKind.BAD_VALUE),
        ('NumberFormatException: For input string: "x"', CallErrorKind.BAD_VALUE),
        ("IndexOutOfBoundsException: Index: 0, Size: 0", CallErrorKind.UNKNOWN),
        ("a word about Mongo", CallErrorKind.UNKNOWN),
        ("", CallErrorKind.UNKNOWN),
        (None, CallErrorKind.UNKNOWN),
    ],
)
def test_the_words_that_tell(message: str | None, kind: CallErrorKind) -> None:
    assert of_text(message).kind is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1, CallErrorKind.NOT_THE_API),
        (6, CallErrorKind.OTHER_WRITER),
        (7, CallErrorKind.UNKNOWN),
        (0, CallErrorKind.UNKNOWN),
    ],
)
def test_an_exception_that_no_method_declares(number: int, kind: CallErrorKind) -> None:
    failed = classify(ApplicationException(number, ""), "storeFitEvent")
    assert (failed.kind, failed.answered) == (kind, True)
    assert failed.detail


def test_declared_exceptions_need_no_words() -> None:
    assert (
        classify(INTERFACE.InvalidExperimentRunException(None), "storeFitEvent").kind
        is CallErrorKind.UNKNOWN_RUN
    )
    assert (
        classify(INTERFACE.ResourceNotFoundException("MongoDB"), "getModel").kind
        is CallErrorKind.NOT_FOUND
    )
    assert (
        classify(INTERFACE.InvalidFieldException("x"), "pathForTransformer").kind
        is CallErrorKind.NOT_FOUND
    )


@pytest.mark.parametrize(
    "message",
    [
        'JSONParseException: \n{"password": secret}\n            ^',
        'NumberFormatException: For input string: "secret"',
        "DataAccessException: SQL [insert into Project values ('secret')]; [SQLITE_FULL]  full",
    ],
)
def test_values_that_were_sent_are_not_in_the_detail(message: str) -> None:
    failed = of_text(message)
    assert "secret" not in str(failed)
    assert failed.detail.endswith(("Exception", "full"))


def test_a_detail_is_one_short_line() -> None:
    failed = of_text("IllegalArgumentException: one\n\ttwo\x1b[31m\x00" + "x" * 20_000)
    assert failed.detail.startswith("IllegalArgumentException: one two [31m xxx")
    assert len(failed.detail) == DETAIL_CHARACTERS
    assert failed.detail.endswith("x…")
    assert str(failed) == f"storeFitEvent: {failed.detail}"


def test_an_exception_without_a_text_has_its_name() -> None:
    assert of_text("").detail == "ServerLogicException"


def test_a_failure_that_nobody_answered() -> None:
    failed = CallFailed(CallErrorKind.UNREACHABLE, "getModel", "gone")
    assert (failed.answered, failed.sent) == (False, True)
