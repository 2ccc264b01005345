"""What the errors of a ModelDB V1 mean: every one that was recorded, and those that the server's sources name."""

from __future__ import annotations

from collections import Counter

import pytest

from daemon.targets.modeldb_v1.codec import INTERFACE, ApplicationException, decode_reply
from daemon.targets.modeldb_v1.errors import DETAIL_CHARACTERS, CallFailed, Kind, classify
from tests.modeldb_v1_exchanges import load

SQL = "DataAccessException: SQL [insert into HyperParameter (spec) values (?)\nreturning *]; "
NOT_NULL = SQL + "[SQLITE_CONSTRAINT_NOTNULL]  A NOT NULL constraint failed (NOT NULL constraint failed: {})"


def of_text(message: str | None, method: str = "storeFitEvent") -> CallFailed:
    return classify(INTERFACE.ServerLogicException(message), method)


def test_every_recorded_exception_means_something() -> None:
    kinds: Counter[Kind] = Counter()
    for exchange in load():
        if "exception" in exchange.response and exchange.response_frame is not None:
            reply = decode_reply(exchange.response_frame)
            failed = classify(reply.exception, reply.method)
            assert (failed.method, failed.answered, failed.sent) == (reply.method, True, True)
            assert failed.detail
            kinds[failed.kind] += 1
    assert kinds == {
        Kind.OTHER_WRITER: 48,
        Kind.BAD_VALUE: 37,
        Kind.NOT_FOUND: 12,
        Kind.UNKNOWN: 8,  # ids and columns that we never choose
        Kind.UNKNOWN_RUN: 8,
        Kind.METADATA_STORE_DOWN: 7,
        Kind.TWIN_ROWS: 6,
        Kind.STORAGE: 4,
        Kind.NOT_THE_API: 2,
    }


def test_what_clients_saw_while_several_wrote_at_once_is_recognised() -> None:
    replies = [decode_reply(exchange.response_frame or b"") for exchange in load() if exchange.file == "race"]
    failed = [classify(reply.exception, reply.method).kind for reply in replies if reply.exception is not None]
    assert failed == [Kind.OTHER_WRITER] * 14


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("MongoTimeoutException: Timed out after 30000 ms", Kind.METADATA_STORE_DOWN),
        ("MongoSocketReadException: Prematurely reached end of stream", Kind.METADATA_STORE_DOWN),
        ("MongoSocketOpenException: Exception opening socket", Kind.METADATA_STORE_DOWN),
        ("MongoNotPrimaryException: not master", Kind.METADATA_STORE_DOWN),
        (SQL + "[SQLITE_BUSY]  The database file is locked (database is locked)", Kind.STORAGE),
        (SQL + "[SQLITE_BUSY_SNAPSHOT]  Another database connection has already written", Kind.STORAGE),
        (SQL + "[SQLITE_FULL]  Insertion failed because database is full", Kind.STORAGE),
        (SQL + "[SQLITE_IOERR]  Some kind of disk I/O error occurred", Kind.STORAGE),
        (SQL + "[SQLITE_IOERR_WRITE]  disk I/O error", Kind.STORAGE),
        (SQL + "[SQLITE_READONLY]  Attempt to write a readonly database", Kind.STORAGE),
        (SQL + "[SQLITE_ERROR] SQL error or missing database (no such table: Project)", Kind.SCHEMA_MISSING),
        (SQL + "[SQLITE_ERROR] SQL error or missing database (no such column: owner)", Kind.UNKNOWN),
        (SQL + "[SQLITE_CONSTRAINT_PRIMARYKEY]  A PRIMARY KEY constraint failed", Kind.UNKNOWN),
        (NOT_NULL.format("HyperParameter.spec"), Kind.OTHER_WRITER),
        (NOT_NULL.format("DataFrameMetadata.dfId"), Kind.OTHER_WRITER),
        (NOT_NULL.format("DataFrameMetadata.metadataKvId"), Kind.OTHER_WRITER),
        (NOT_NULL.format("FitEvent.transformer"), Kind.OTHER_WRITER),
        (NOT_NULL.format("FitEvent.transformerSpec"), Kind.OTHER_WRITER),
        (NOT_NULL.format("MetricEvent.df"), Kind.OTHER_WRITER),
        (NOT_NULL.format("Event.eventId"), Kind.OTHER_WRITER),
        (NOT_NULL.format("MetricEvent.metricValue"), Kind.BAD_VALUE),
        (NOT_NULL.format("MetricEvent.metricType"), Kind.BAD_VALUE),
        (NOT_NULL.format("HyperParameter.paramValue"), Kind.BAD_VALUE),
        (NOT_NULL.format("MetadataKV.value"), Kind.BAD_VALUE),
        (NOT_NULL.format("TransformerSpec.transformerType"), Kind.BAD_VALUE),
        ("TooManyRowsException: Cursor returned more than one result", Kind.TWIN_ROWS),
        ("NullPointerException: null", Kind.OTHER_WRITER),
        ('NullPointerException: Cannot invoke "java.lang.Integer.intValue()" because "id" is null', Kind.OTHER_WRITER),
        ("IllegalArgumentException: Invalid BSON field name a.b", Kind.BAD_VALUE),
        ("BsonSerializationException: BSON cstring is not valid", Kind.BAD_VALUE),
        ("JSONParseException: {[SQLITE_FULL]\n^", Kind.BAD_VALUE),
        ("ClassCastException: class java.lang.String cannot be cast", Kind.BAD_VALUE),
        ('NumberFormatException: For input string: "x"', Kind.BAD_VALUE),
        ("IndexOutOfBoundsException: Index: 0, Size: 0", Kind.UNKNOWN),
        ("a word about Mongo", Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
        (None, Kind.UNKNOWN),
    ],
)  # fmt: skip
def test_the_words_that_tell(message: str | None, kind: Kind) -> None:
    assert of_text(message).kind is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [(1, Kind.NOT_THE_API), (6, Kind.OTHER_WRITER), (7, Kind.UNKNOWN), (0, Kind.UNKNOWN)],
)
def test_an_exception_that_no_method_declares(number: int, kind: Kind) -> None:
    failed = classify(ApplicationException(number, ""), "storeFitEvent")
    assert (failed.kind, failed.answered) == (kind, True)
    assert failed.detail


def test_declared_exceptions_need_no_words() -> None:
    assert classify(INTERFACE.InvalidExperimentRunException(None), "storeFitEvent").kind is Kind.UNKNOWN_RUN
    assert classify(INTERFACE.ResourceNotFoundException("MongoDB"), "getModel").kind is Kind.NOT_FOUND
    assert classify(INTERFACE.InvalidFieldException("x"), "pathForTransformer").kind is Kind.NOT_FOUND


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
    failed = CallFailed(Kind.UNREACHABLE, "getModel", "gone")
    assert (failed.answered, failed.sent) == (False, True)
