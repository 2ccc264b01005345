"""The codec of ModelDB V1 against what the real server and the original client sent, and against
what nobody should send.
"""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
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

# Recorded requests that are no calls of ours, with what is wrong with them.
NO_CALLS = {
    "empty-frame": "cut short",
    "bad-version": "not Thrift's binary protocol",
    "non-strict": "not Thrift's binary protocol",
    "unknown-method": "no method of this interface",
    "trailing-bytes": "5 bytes follow",
}
# Those that we would write in another way: a field with a default is always sent, and nothing is
# that the interface does not have.
WRITTEN_OTHERWISE = {
    "fit-tags-null": "left out the tags, whose default is an empty text",
    "fit-problem-type-null": "left out the problem type, whose default is UNDEFINED",
    "unknown-field": "has a field that the interface does not have",
    "oneway-type": "says of itself that it wants no answer",
}


def short_name(exchange: Exchange) -> str:
    """Without the letter of the story."""
    return exchange.name.partition("-")[2] if exchange.file != "light_api" else exchange.name


def labels(exchanges: list[Exchange]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "exchange", [pytest.param(exchange, id=exchange.label) for exchange in exchanges]
    )


CALLS = [exchange for exchange in EXCHANGES if short_name(exchange) not in NO_CALLS]


# Recorded exchanges
# ---


def test_every_exchange_is_accounted_for() -> None:
    otherwise = [exchange for exchange in EXCHANGES if short_name(exchange) in WRITTEN_OTHERWISE]
    assert (len(EXCHANGES), len(CALLS), len(CALLS) - len(otherwise), len(ANSWERED)) == (
        467,
        457,
        449,
        461,
    )


@labels(CALLS)
def test_a_recorded_call_is_read_and_written_the_same(exchange: Exchange) -> None:
    call = decode_call(exchange.request_frame)
    assert call.method == exchange.method
    assert {
        name: plain(value) for name, value in call.arguments.items() if value is not None
    } == exchange.request
    same = encode_call(call.method, call.arguments, call.sequence_id) == exchange.request_frame
    assert same == (short_name(exchange) not in WRITTEN_OTHERWISE)


@labels([exchange for exchange in EXCHANGES if short_name(exchange) in NO_CALLS])
def test_a_recorded_request_that_is_no_call_is_refused(exchange: Exchange) -> None:
    with pytest.raises(MalformedMessageError, match=NO_CALLS[short_name(exchange)]):
        decode_call(exchange.request_frame)


@labels(ANSWERED)
def test_a_recorded_answer_is_read_and_written_the_same(exchange: Exchange) -> None:
    assert exchange.response_frame is not None
    reply = decode_reply(exchange.response_frame)
    assert as_recorded(reply) == exchange.response
    # that it is the same byte for byte, order of map entries included, is luck: nothing recorded
    # has two in an order of its own
    assert rewritten(reply) == exchange.response_frame


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
    with pytest.raises(ValueError, match="'storeEverything' is no method"):
        encode_call("storeEverything", {}, 1)


# Hostile answers
# ---


def header(method: str = "getProjectIds", kind: int = 2) -> bytes:
    return (
        struct.pack("!Ii", 0x80010000 | kind, len(method)) + method.encode() + struct.pack("!i", 7)
    )


def field(kind: int, number: int = 0) -> bytes:
    return struct.pack("!bh", kind, number)


STOP = b"\0"
LIST_OF = {
    "i32": b"\x08",
    "string": b"\x0b",
    "struct": b"\x0c",
    "bool": b"\x02",
    "list": b"\x0f",
    "nothing": b"\x00",
}
HUGE = struct.pack("!i", 2**31 - 1)
NEGATIVE = struct.pack("!i", -1)
RUNS = header("getRunsInExperiment")

HOSTILE = {
    "nothing": b"",
    "a version and no more": b"\x80\x01\x00\x02",
    "another version": b"\x80\x02" + header()[2:] + STOP,
    "no version": header()[4:] + STOP,
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a huge name": b"\x80\x01\x00\x02" + HUGE + b"x",
    "a negative name": b"\x80\x01\x00\x02" + NEGATIVE + b"x",
    "a name that is no text": b"\x80\x01\x00\x02\x00\x00\x00\x01\xff\x00\x00\x00\x07\x00",
    "no sequence id": header()[:-2],
    "a call": header(kind=1) + STOP,
    "a oneway call": header(kind=4) + STOP,
    "an unknown message type": header(kind=9) + STOP,
    "an unknown method": header("getEverything") + STOP,
    "no body": header(),
    "neither result nor exception": header() + STOP,
    "a result of another type": header() + field(8) + HUGE + STOP,
    "bytes behind it": header() + field(15) + LIST_OF["i32"] + b"\0\0\0\0" + STOP + b"\0",
    "a field that is cut off": header() + b"\x0f\x00",
    "a huge list": header() + field(15) + LIST_OF["i32"] + HUGE + STOP,
    "a negative list": header() + field(15) + LIST_OF["i32"] + NEGATIVE + STOP,
    "a list longer than its message": header()
    + field(15)
    + LIST_OF["i32"]
    + b"\0\0\0\x05\0\0\0\x01"
    + STOP,
    "a list of other items": header()
    + field(15)
    + LIST_OF["string"]
    + b"\0\0\0\x01\0\0\0\x01x"
    + STOP,
    "a list of other items that look alike": header()
    + field(15)
    + LIST_OF["string"]
    + b"\0\0\0\x01\0\0\0\0"
    + STOP,
    "a list of nothing": header()
    + field(15)
    + LIST_OF["nothing"]
    + b"\0\0\0\x05\0\0\0\0\0\0\0"
    + STOP,
    "a huge unknown list": header() + field(15, 99) + LIST_OF["bool"] + HUGE + STOP,
    "an unknown list that is cut off": header()
    + field(15, 99)
    + LIST_OF["i32"]
    + b"\0\0\0\x02\0\0\0\x01"
    + STOP,
    "a huge unknown text": header() + field(11, 99) + HUGE + b"x" + STOP,
    "a negative unknown text": header() + field(11, 99) + NEGATIVE + b"x" + STOP,
    "a text that leads back to itself": header() + field(11, 99) + struct.pack("!i", -7) + STOP,
    "an unknown type": header() + field(1, 99) + STOP,
    "a negative type": header() + field(-1, 99) + STOP,
    "a huge unknown map": header() + field(13, 99) + b"\x08\x08" + HUGE + STOP,
    "unknown structs without end": header() + field(12, 99) * 100_000,
    "unknown lists without end": header()
    + field(15, 99)
    + (LIST_OF["list"] + b"\0\0\0\x01") * 100_000,
    "a huge text": header("pathForTransformer") + field(11) + HUGE + b"x" + STOP,
    "a text that is no UTF-8": header("pathForTransformer") + field(11) + b"\0\0\0\x01\xff" + STOP,
    "a map with texts for numbers": header("getModel")
    + field(12)
    + field(13, 11)
    + b"\x0b\x0d\0\0\0\x01"
    + b"\0\0\0\x01m"
    + b"\x0b\x04\0\0\0\x01"
    + b"\x00\x00\x00\x04abcd"
    + b"\0" * 8
    + STOP
    + STOP,
    "an exception without end": header(kind=3) + field(11, 1) + HUGE,
    "a million empty structs": RUNS
    + field(15)
    + LIST_OF["struct"]
    + struct.pack("!i", 1_000_000)
    + STOP * 1_000_001,
    "a million empty unknown structs": header()
    + field(15, 9)
    + LIST_OF["struct"]
    + struct.pack("!i", 1_000_000)
    + STOP * 1_000_001,
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_answer_is_refused_at_once(frame: bytes) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    try:
        with pytest.raises(MalformedMessageError):
            decode_reply(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
    assert time.monotonic() - begun < 5


def test_the_longest_unknown_list_is_passed_over() -> None:
    count = 16_000_000
    frame = header() + field(15, 99) + LIST_OF["bool"] + struct.pack("!i", count) + b"\1" * count
    frame += field(15) + LIST_OF["i32"] + b"\0\0\0\x01\0\0\0\x05" + STOP
    begun = time.monotonic()
    assert decode_reply(frame).result == [5]
    assert time.monotonic() - begun < 1


def test_unknown_fields_of_every_type_are_passed_over() -> None:
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
        + field(11, 95)
        + b"\0\0\0\x01\xff"
        + field(12, 96)
        + field(8, 1)
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
        + field(15, 99)
        + b"\x08\0\0\0\x02"
        + b"\0" * 8
    )
    assert decode_reply(
        header() + unknown + field(15) + LIST_OF["i32"] + b"\0\0\0\x01\0\0\0\x05" + STOP
    ).result == [5]


def test_as_many_runs_as_a_frame_takes_are_read() -> None:
    runs = [
        INTERFACE.ExperimentRun(id=number, experimentId=1, description="")
        for number in range(100_000)
    ]
    assert len(decode_reply(encode_reply("getRunsInExperiment", 1, runs)).result) == len(runs)


@pytest.mark.parametrize(
    "exchange", [pytest.param(exchange, id=exchange.label) for exchange in ANSWERED[::40]]
)
def test_an_answer_cut_short_anywhere_is_refused(exchange: Exchange) -> None:
    assert exchange.response_frame is not None
    for length in range(len(exchange.response_frame)):
        with pytest.raises(MalformedMessageError):
            decode_reply(exchange.response_frame[:length])


def test_answers_with_wrong_bytes_never_end_in_another_error() -> None:
    chance = random.Random(os.environ.get("MODELDB_V1_FUZZ_SEED", "5"))
    refused = 0
    for _ in range(20_000):
        frame = bytearray(chance.choice(ANSWERED).response_frame or b"")
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, 8, 11, 12, 13, 15, chance.randrange(256)]
            )
        try:
            decode_reply(bytes(frame))
        except MalformedMessageError:
            refused += 1
    assert 5_000 < refused < 20_000


def test_every_method_has_its_structs() -> None:
    for method in METHODS:
        assert decode_call(encode_call(method, {}, -(2**31))).sequence_id == -(2**31)
