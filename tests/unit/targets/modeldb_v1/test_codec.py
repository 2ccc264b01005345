"""The codec on messages recorded from the real server and the original client, and on malformed
ones.
"""

from __future__ import annotations

import random
import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.codec import (
    INTERFACE,
    METHODS,
    ApplicationException,
    MalformedMessageError,
    decode_call,
    decode_reply,
    encode_application_exception,
    encode_call,
    encode_exception,
    encode_reply,
    plain,
)
from tests.support.modeldb_v1_exchanges import load

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.codec import Reply
    from tests.support.modeldb_v1_exchanges import Exchange

EXCHANGES = load()
ANSWERED = [exchange for exchange in EXCHANGES if exchange.response_frame is not None]
BY_FILE: dict[str, list[Exchange]] = defaultdict(list)
for _exchange in EXCHANGES:
    BY_FILE[_exchange.file].append(_exchange)

# Recorded requests that are not calls of the interface, and why.
NO_CALLS = {
    "empty-frame": "truncated",
    "bad-version": "not Thrift's binary protocol",
    "non-strict": "not Thrift's binary protocol",
    "unknown-method": "not a method of this interface",
    "trailing-bytes": "5 bytes follow",
}
# Those that the codec encodes differently: it always sends fields with a default, and only fields
# of the interface.
WRITTEN_OTHERWISE = {
    "fit-tags-null": "left out the tags, whose default is an empty text",
    "fit-problem-type-null": "left out the problem type, whose default is UNDEFINED",
    "unknown-field": "has a field that the interface does not have",
    "oneway-type": "says of itself that it wants no answer",
}


def short_name(exchange: Exchange) -> str:
    """Without the letter of the story."""
    return exchange.name.partition("-")[2] if exchange.file != "light_api" else exchange.name


def call_problems(exchange: Exchange) -> list[str]:
    """Where reading the recorded request and encoding it again differs from the recording."""
    if (why := NO_CALLS.get(short_name(exchange))) is not None:
        try:
            decode_call(exchange.request_frame)
        except MalformedMessageError as refused:
            return [] if why in str(refused) else [f"refused with: {refused}"]
        return ["not refused"]
    call = decode_call(exchange.request_frame)
    arguments = {name: plain(value) for name, value in call.arguments.items() if value is not None}
    same = encode_call(call.method, call.arguments, call.sequence_id) == exchange.request_frame
    checks = {
        "method": call.method == exchange.method,
        "arguments": arguments == exchange.request,
        "encoding": same == (short_name(exchange) not in WRITTEN_OTHERWISE),
    }
    return [what for what, right in checks.items() if not right]


def answer_problems(exchange: Exchange) -> list[str]:
    if exchange.response_frame is None:
        return []
    reply = decode_reply(exchange.response_frame)
    # that the encoding is the same byte for byte, including the order of map entries, is luck: no
    # recorded map has two entries in an order of its own
    checks = {
        "answer": as_recorded(reply) == exchange.response,
        "encoding of the answer": rewritten(reply) == exchange.response_frame,
    }
    return [what for what, right in checks.items() if not right]


# Recorded exchanges
# ---


def test_every_exchange_is_accounted_for() -> None:
    calls = [each for each in EXCHANGES if short_name(each) not in NO_CALLS]
    same = [each for each in calls if short_name(each) not in WRITTEN_OTHERWISE]
    assert (len(EXCHANGES), len(calls), len(same), len(ANSWERED)) == (467, 457, 449, 461)


@pytest.mark.parametrize("file", sorted(BY_FILE))
def test_recorded_messages_are_read_and_written_the_same(file: str) -> None:
    problems = {
        exchange.label: found
        for exchange in BY_FILE[file]
        if (found := call_problems(exchange) + answer_problems(exchange))
    }
    assert problems == {}


def as_recorded(reply: Reply) -> dict[str, Any]:
    if reply.exception is None:
        return {"result": plain(reply.result)}
    assert reply.result is None
    if isinstance(reply.exception, ApplicationException):
        return {
            "exception": {
                "name": "TApplicationException",
                "message": reply.exception.message,
                "type": reply.exception.number,
            },
        }
    return {"exception": {"name": type(reply.exception).__name__, **plain(reply.exception)}}


def rewritten(reply: Reply) -> bytes:
    if reply.exception is None:
        return encode_reply(reply.method, reply.sequence_id, reply.result)
    if isinstance(reply.exception, ApplicationException):
        return encode_application_exception(reply.method, reply.sequence_id, reply.exception)
    return encode_exception(reply.method, reply.sequence_id, reply.exception)


# What does not fit
# ---


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"projectId": 2**31, "key": "description", "value": "x"}, "projectId"),
        ({"projectId": "1", "key": "description", "value": "x"}, "projectId"),
        ({"projectId": 1, "key": "description", "value": "\ud800 secret"}, "value"),
        ({"projectId": 1, "key": "description", "value": 17}, "value"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_not_shown(
    arguments: dict[str, object], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"updateProject_args\.{field} must be \w+") as caught:
        encode_call("updateProject", arguments, 1)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_exception_that_the_method_does_not_declare_cannot_be_its_answer() -> None:
    with pytest.raises(
        ValueError, match="getProjectIds does not declare ResourceNotFoundException"
    ):
        encode_exception("getProjectIds", 1, INTERFACE.ResourceNotFoundException("no"))


def test_an_unknown_method_cannot_be_called() -> None:
    with pytest.raises(ValueError, match="'storeEverything' is not a method"):
        encode_call("storeEverything", {}, 1)


# Malformed messages
# ---

STOP = b"\0"
I32, STRING, STRUCT, LIST = 8, 11, 12, 15
HUGE, NEGATIVE = struct.pack("!i", 2**31 - 1), struct.pack("!i", -1)


def header(method: str = "getProjectIds", kind: int = 2) -> bytes:
    return (
        struct.pack("!Ii", 0x8001_0000 | kind, len(method)) + method.encode() + struct.pack("!i", 7)
    )


def field(kind: int, number: int = 0) -> bytes:
    return struct.pack("!bh", kind, number)


def items(kind: int, content: bytes) -> bytes:
    """A field with a list of items of a type; the content begins with their number."""
    return field(LIST) + bytes([kind]) + content


FIVE = items(I32, b"\0\0\0\x01\0\0\0\x05") + STOP
"""The result [5] and the end of an answer of ``getProjectIds``."""

MALFORMED = {
    "nothing": (b"", "truncated or garbled"),
    "only a version": (b"\x80\x01\x00\x02", "truncated or garbled"),
    "another version": (b"\x80\x02" + header()[2:] + STOP, "not Thrift's binary protocol"),
    "no version": (header()[4:] + STOP, "not Thrift's binary protocol"),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not Thrift's binary protocol"),
    "a long name": (b"\x80\x01\x00\x02" + HUGE + b"x", "a string of 2147483647 bytes"),
    "a negative name": (b"\x80\x01\x00\x02" + NEGATIVE + b"x", "a string of -1 bytes"),
    "a name that is not UTF-8": (b"\x80\x01\0\x02\0\0\0\x01\xff\0\0\0\x07\0", "garbled"),
    "no sequence id": (header()[:-2], "truncated or garbled"),
    "a call": (header(kind=1) + STOP, "a message of type 1 is not an answer"),
    "a oneway call": (header(kind=4) + STOP, "a message of type 4 is not an answer"),
    "an unknown message type": (header(kind=9) + STOP, "a message of type 9 is not an answer"),
    "an unknown method": (header("getAll") + STOP, "'getAll' is not a method"),
    "no body": (header(), "the message is truncated"),
    "no result": (header() + STOP, "neither a result nor an exception"),
    "a result of another type": (header() + field(I32) + HUGE + STOP, "neither a result"),
    "bytes behind it": (header() + FIVE + b"\0", "1 bytes follow the message"),
    "a truncated field": (header() + b"\x0f\x00", "the message is truncated"),
    "a huge list": (header() + items(I32, HUGE) + STOP, "a container of 2147483647 items"),
    "a negative list": (header() + items(I32, NEGATIVE) + STOP, "a container of -1 items"),
    "a list longer than its message": (
        header() + items(I32, b"\0\0\0\x06\0\0\0\x01") + STOP,
        "a container of 6 items",
    ),
    "a list of other items": (
        header() + items(STRING, b"\0\0\0\x01\0\0\0\0") + STOP,
        "has items of types [11], not [8]",
    ),
    "a map of other items": (
        header("getModel") + field(STRUCT) + field(13, 11) + b"\x0b\x08\0\0\0\x01" + b"\0" * 9,
        "has items of types [11, 8], not [11, 13]",
    ),
    "a huge unknown text": (header() + field(STRING, 99) + HUGE + b"x" + STOP, "a string of 2147"),
    "an unknown text that leads back": (
        header() + field(STRING, 99) + struct.pack("!i", -7) + STOP,
        "a string of -7 bytes",
    ),
    "an unknown type": (header() + field(1, 99) + STOP, "1 is not a type"),
    "a huge unknown map": (header() + field(13, 99) + b"\x08\x08" + HUGE + STOP, "a container of"),
    "unknown structs without end": (header() + field(STRUCT, 99) * 100_000, "nested too deeply"),
    "unknown lists without end": (
        header() + field(LIST, 99) + (bytes([LIST]) + b"\0\0\0\x01") * 100_000,
        "nested too deeply",
    ),
    "a text that is not UTF-8": (
        header("pathForTransformer") + field(STRING) + b"\0\0\0\x01\xff" + STOP,
        "a string is not UTF-8",
    ),
    "an exception without end": (header(kind=3) + field(STRING, 1) + HUGE, "a string of 2147"),
}


@pytest.mark.parametrize(("frame", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_refused_with_the_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        decode_reply(frame)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_an_answer_is_not_a_request() -> None:
    with pytest.raises(MalformedMessageError, match="a message of type 2 is not a request"):
        decode_call(encode_reply("testConnection", 1, 200))


def test_unknown_fields_of_every_type_are_skipped() -> None:
    unknown = (
        field(2, 90)
        + b"\x01"
        + field(3, 91)
        + b"\x01"
        + field(4, 92)
        + b"\0" * 8
        + field(6, 93)
        + b"\0" * 2
        + field(10, 94)
        + b"\0" * 8
        + field(STRING, 95)
        + b"\0\0\0\x01\xff"
        + field(STRUCT, 96)
        + field(I32, 1)
        + b"\0" * 4
        + STOP
        + field(13, 97)
        + b"\x0b\x0f\0\0\0\x01"
        + b"\0\0\0\x01k"
        + b"\x0c\0\0\0\x01"
        + field(2, 1)
        + b"\x01"
        + STOP
        + field(14, 98)
        + b"\x0b\0\0\0\x01"
        + b"\0\0\0\x01v"
        + field(LIST, 99)
        + b"\x08\0\0\0\x02"
        + b"\0" * 8
    )
    assert decode_reply(header() + unknown + FIVE).result == [5]


def test_truncated_messages_are_refused_wherever_they_are_cut() -> None:
    """thriftpy2's own reader returns uninitialised memory for some of them."""
    read = []
    for exchange in ANSWERED[::20]:
        for decode, frame in (
            (decode_call, exchange.request_frame),
            (decode_reply, exchange.response_frame or b""),
        ):
            for length in range(min(len(frame), 3_000)):
                try:
                    decode(frame[:length])
                except MalformedMessageError:
                    continue
                read.append((exchange.label, length))
    assert read == []


def test_changed_bytes_never_cause_another_error() -> None:
    chance = random.Random(5)
    refused = 0
    for _ in range(10_000):
        frame = bytearray(chance.choice(ANSWERED).response_frame or b"")
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, 8, 11, 12, 13, 15, chance.randrange(256)]
            )
        try:
            decode_reply(bytes(frame))
        except MalformedMessageError:
            refused += 1
    assert 2_500 < refused < 10_000


def test_every_method_has_its_structs() -> None:
    for method in METHODS:
        assert decode_call(encode_call(method, {}, -(2**31))).sequence_id == -(2**31)
