"""Round trips of any message, and any bytes, through the codec of ModelDB V1."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from tests.property.structs import arguments, exceptions, results
from tests.property.texts import sendable_texts, texts
from tests.support.modeldb_v1_exchanges import load

FRAMES = [
    frame
    for exchange in load()
    for frame in (exchange.request_frame, exchange.response_frame)
    if frame and len(frame) < 3_000
]

methods = st.sampled_from(sorted(METHODS))
sequence_ids = st.integers(-(2**31), 2**31 - 1)


@given(methods.flatmap(lambda method: st.tuples(st.just(method), arguments(method))), sequence_ids)
def test_a_call_reads_as_it_was_written(call: tuple[str, dict[str, Any]], sequence_id: int) -> None:
    method, sent = call
    read = decode_call(encode_call(method, sent, sequence_id))
    assert (read.method, read.sequence_id) == (method, sequence_id)
    # as plain data, for NaN is not equal to itself
    assert {name: plain(value) for name, value in read.arguments.items()} == {
        name: plain(value) for name, value in sent.items()
    }


@given(methods.flatmap(lambda method: st.tuples(st.just(method), results(method))), sequence_ids)
def test_a_result_reads_as_it_was_written(answer: tuple[str, Any], sequence_id: int) -> None:
    method, result = answer
    reply = decode_reply(encode_reply(method, sequence_id, result))
    assert (reply.method, reply.sequence_id, reply.exception) == (method, sequence_id, None)
    assert plain(reply.result) == plain(result)


@given(methods.flatmap(lambda method: st.tuples(st.just(method), exceptions(method))), sequence_ids)
def test_an_exception_reads_as_it_was_written(answer: tuple[str, Any], sequence_id: int) -> None:
    method, exception = answer
    reply = decode_reply(encode_exception(method, sequence_id, exception))
    assert (reply.method, reply.sequence_id, reply.result) == (method, sequence_id, None)
    assert type(reply.exception) is type(exception)
    assert plain(reply.exception) == plain(exception)


@given(sendable_texts(), sequence_ids, st.integers(0, 10), sendable_texts())
def test_a_failure_of_the_server_reads_as_it_was_written(
    method: str, sequence_id: int, number: int, message: str
) -> None:
    failure = ApplicationException(number, message)
    reply = decode_reply(encode_application_exception(method, sequence_id, failure))
    assert (reply.method, reply.sequence_id, reply.exception) == (method, sequence_id, failure)


@given(texts().map(lambda text: f"v4lue{text}"), st.integers() | texts())
def test_a_value_that_does_not_fit_is_not_in_the_error(text: str, number: Any) -> None:
    project = INTERFACE.Project(id=number, name=text, author=text, description=text)
    try:
        frame = encode_call("storeProjectEvent", {"pr": INTERFACE.ProjectEvent(project=project)}, 0)
    except ValueError as refused:
        reported = str(refused)
    else:
        read = decode_call(frame).arguments["pr"].project
        reported = ""
        assert (read.id, read.name, read.author, read.description) == (number, text, text, text)
    assert "v4lue" not in reported


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Recorded messages with changed bytes, and arbitrary bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    if draw(st.integers(0, 2)) == 0:
        return bytes(frame[: draw(st.integers(0, len(frame)))])
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(frame)))
        last = draw(st.sampled_from((first, first + 1, first + 4, len(frame))))
        frame[first:last] = draw(
            st.binary(max_size=4)
            | st.sampled_from((b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"))
        )
    return bytes(frame)


@pytest.mark.parametrize("decode", [decode_call, decode_reply])
@given(frame=frames())
def test_any_bytes_are_read_or_refused(decode: Any, frame: bytes) -> None:
    with contextlib.suppress(MalformedMessageError):
        decode(frame)
