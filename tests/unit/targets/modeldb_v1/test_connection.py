"""The connection on real sockets, against scripted servers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.codec import (
    INTERFACE,
    ApplicationException,
    Call,
    encode_application_exception,
    encode_call,
    encode_exception,
    encode_reply,
)
from daemon.targets.modeldb_v1.connection import FIRST_SEQUENCE_ID, LONGEST_FRAME, Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from tests.support.modeldb_v1_connections import (
    Observed,
    answer_all,
    answer_to,
    connected,
    failure_of,
    framed,
    read_call,
    until,
)
from tests.support.scripted_addresses import listening, silence

if TYPE_CHECKING:
    from tests.support.scripted_addresses import Handler

OK = encode_reply("testConnection", FIRST_SEQUENCE_ID, 200)
"""The answer to the first call of a connection."""


def sending(raw: bytes) -> Handler:
    """Sends these bytes when a call has come, and closes the connection when the client has closed
    it.
    """

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(raw)
        await writer.drain()
        await silence(reader, writer)

    return handler


# Calls and answers
# ---


async def test_200_calls_at_once_are_sent_before_the_first_answer_and_each_gets_its_own() -> None:
    came: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls = [await read_call(reader) for _ in range(200)]
        came.extend(call.arguments["transformerId"] for call in calls)
        writer.write(b"".join(framed(answer_to(call)) for call in calls))
        await silence(reader, writer)

    async with connected(handler) as connection:
        answers = await asyncio.gather(
            *(connection.call("pathForTransformer", transformerId=number) for number in range(200))
        )
        assert answers == [f"path of {number}" for number in range(200)]
        assert came == list(range(200))
        assert connection.unanswered == 0


async def test_an_answer_may_come_in_pieces() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(answer_to(await read_call(reader))):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await silence(reader, writer)

    async with connected(handler) as connection:
        assert await connection.call("testConnection") == 200


async def test_an_exception_in_the_middle_is_the_failure_of_its_call_only() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, second, third, fourth = [await read_call(reader) for _ in range(4)]
        declared = INTERFACE.ResourceNotFoundException("no such model file")
        writer.write(
            framed(answer_to(first))
            + framed(encode_exception(second.method, second.sequence_id, declared))
            + framed(
                encode_application_exception(
                    third.method, third.sequence_id, ApplicationException(6, "Internal error")
                )
            )
            + framed(answer_to(fourth))
        )
        await silence(reader, writer)

    observed = Observed()
    async with connected(handler, observe=observed) as connection:
        calls = [connection.call("pathForTransformer", transformerId=number) for number in range(4)]
        first, second, third, fourth = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, fourth) == ("path of 0", "path of 3")
        assert isinstance(second, CallFailed)
        assert (second.kind, second.detail, second.answered, second.sent) == (
            CallErrorKind.NOT_FOUND,
            "no such model file",
            True,
            True,
        )
        assert isinstance(third, CallFailed)
        assert (third.kind, third.answered) == (CallErrorKind.OTHER_WRITER, True)
        assert not connection.closed
    assert [result for _, result in observed] == ["ok", "not_found", "other_writer", "ok"]


async def test_sequence_ids_begin_anew_after_the_largest() -> None:
    async with connected(answer_all) as connection:
        connection._sequence_id = 2**31 - 1
        await asyncio.gather(*(connection.call("testConnection") for _ in range(3)))
        assert connection._sequence_id == 2


# The deadline
# ---


async def test_the_deadline_of_a_call_begins_when_the_one_before_it_is_answered() -> None:
    go = asyncio.Semaphore(0)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for call in [await read_call(reader) for _ in range(4)]:
            await go.acquire()
            writer.write(framed(answer_to(call)))
        await silence(reader, writer)

    loop = asyncio.get_running_loop()
    async with connected(handler, call_seconds=60.0) as connection:
        calls = [asyncio.create_task(connection.call("testConnection")) for _ in range(4)]
        await until(lambda: connection.unanswered == 4)
        for left in (3, 2, 1, 0):
            deadline, before = connection._deadline, loop.time()
            assert deadline is not None
            go.release()
            await until(lambda left=left: connection.unanswered == left)  # type: ignore[misc] # the loop's own
            assert deadline.cancelled()
            assert connection._deadline is None or connection._deadline.when() >= before + 60.0
        assert connection._deadline is None
        assert await asyncio.gather(*calls) == [200] * 4


async def test_when_the_oldest_call_is_not_answered_in_time_all_have_an_unknown_outcome() -> None:
    observed = Observed()
    async with connected(silence, call_seconds=0.2, observe=observed) as connection:
        failures = await asyncio.gather(
            *(failure_of(connection.call("testConnection")) for _ in range(3))
        )
        for failed in failures:
            assert (failed.kind, failed.answered, failed.sent) == (
                CallErrorKind.UNREACHABLE,
                False,
                True,
            )
            assert "no answer within 0.2 s" in failed.detail
        assert connection.closed
        assert connection.unanswered == 0
    assert observed == [("testConnection", "unreachable")] * 3


async def test_calls_that_come_later_do_not_put_off_the_deadline_of_the_oldest() -> None:
    loop = asyncio.get_running_loop()
    async with connected(silence, call_seconds=0.3) as connection:
        begun, calls = loop.time(), []
        while not connection.closed:
            calls.append(asyncio.create_task(failure_of(connection.call("testConnection"))))
            await asyncio.sleep(0.02)
        assert 0.29 < loop.time() - begun < 2
        assert {failed.kind for failed in await asyncio.gather(*calls)} == {
            CallErrorKind.UNREACHABLE
        }


async def test_a_connection_that_waits_for_nothing_has_no_deadline() -> None:
    async with connected(answer_all, call_seconds=0.05) as connection:
        await connection.call("testConnection")
        await asyncio.sleep(0.15)
        assert await connection.call("testConnection") == 200


# What is no answer
# ---

NO_ANSWERS = {
    "a wrong sequence id": (
        framed(encode_reply("testConnection", 7, 200)),
        "the answer to call testConnection 7 came",
    ),
    "a wrong method": (
        framed(encode_reply("storeDataFrame", FIRST_SEQUENCE_ID, 200)),
        f"the answer to call storeDataFrame {FIRST_SEQUENCE_ID} came",
    ),
    "a call": (
        framed(encode_call("testConnection", {}, 0)),
        "a message of type 1 is not an answer",
    ),
    "garbage": (framed(b"\x80\x01\x00\x02garbage"), "the server is not ModelDB V1"),
    "an unframed answer": (OK, "an answer of -2147418110 bytes"),
    "a frame of nothing": (framed(b""), "an answer of 0 bytes"),
    "a negative frame": (struct.pack("!i", -1), "an answer of -1 bytes"),
    "a frame that is too long": (
        struct.pack("!i", LONGEST_FRAME + 1),
        "an answer of 16384001 bytes",
    ),
    "HTTP": (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "an HTTP server answers; target.port must be that of ModelDB's Thrift server (6543)",
    ),
    "TLS": (b"\x15\x03\x03\x00\x02\x02\x46", "a TLS server answers; is target.tls right?"),
    "SSH": (b"SSH-2.0-OpenSSH_9.9\r\n", "b'SSH-'"),
    "one answer too many": (
        framed(OK) * 2 + framed(encode_reply("testConnection", 2, 200)),
        f"the answer to call testConnection {FIRST_SEQUENCE_ID}",
    ),
}


@pytest.mark.parametrize(("raw", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_answer_ends_the_connection_and_every_call_on_it(
    raw: bytes, words: str
) -> None:
    async with connected(sending(raw)) as connection:
        calls = [connection.call("testConnection") for _ in range(3)]
        *_, second, third = await asyncio.gather(*calls, return_exceptions=True)
        for failed in (second, third):
            assert isinstance(failed, CallFailed)
            assert (failed.kind, failed.method, failed.answered, failed.sent) == (
                CallErrorKind.NOT_THE_API,
                "testConnection",
                False,
                True,
            )
            assert words in failed.detail
            assert "127.0.0.1:" in failed.detail
        await connection.wait_closed()
        later = await failure_of(connection.call("testConnection"))
        assert (later.kind, later.method, later.sent) == (
            CallErrorKind.NOT_THE_API,
            "testConnection",
            False,
        )
        assert words in later.detail


@pytest.mark.parametrize(
    ("method", "made"),
    [
        ("storeFitEvent", INTERFACE.FitEventResponse(dfId=1)),
        ("storeProjectEvent", INTERFACE.ProjectEventResponse()),
        ("getExperimentRunDetails", INTERFACE.ExperimentRunDetailsResponse()),
        (
            "getRunsAndExperimentsInProject",
            INTERFACE.ProjectExperimentsAndRuns(
                projId=1, experimentRuns=[INTERFACE.ExperimentRun(id=1)]
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_without_a_member_that_is_needed_is_no_answer(
    method: str, made: object
) -> None:
    """Its None would go on into the next call, or into the checkpoint."""
    raw = framed(encode_reply(method, FIRST_SEQUENCE_ID, made))
    async with connected(sending(raw)) as connection:
        failed = await failure_of(connection.call(method))
    assert (failed.kind, failed.answered) == (CallErrorKind.NOT_THE_API, False)


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(OK))
        await silence(reader, writer)

    async with connected(handler) as connection:
        async with asyncio.timeout(5):
            await connection.wait_closed()
        assert (
            "an answer without a call"
            in (await failure_of(connection.call("testConnection"))).detail
        )


async def test_the_longest_answer_is_taken() -> None:
    empty = len(encode_reply("pathForTransformer", FIRST_SEQUENCE_ID, ""))
    longest = encode_reply("pathForTransformer", FIRST_SEQUENCE_ID, "x" * (LONGEST_FRAME - empty))
    async with connected(sending(framed(longest))) as connection:
        assert (
            len(await connection.call("pathForTransformer", transformerId=1))
            == LONGEST_FRAME - empty
        )


# Connections that are lost
# ---


@pytest.mark.parametrize(
    "raw", [b"", framed(OK)[:2], framed(OK)[:-1]], ids=["before", "in the length", "in the answer"]
)
async def test_a_server_that_closes_the_connection(raw: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(raw)

    async with connected(handler) as connection:
        failed = await failure_of(connection.call("testConnection"))
        assert (failed.kind, failed.answered, failed.sent) == (
            CallErrorKind.UNREACHABLE,
            False,
            True,
        )
        assert ("in the middle of an answer" in failed.detail) == bool(raw)
        later = await failure_of(connection.call("testConnection"))
        assert (later.kind, later.sent) == (CallErrorKind.UNREACHABLE, False)


async def test_a_server_that_resets_the_connection() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    async with connected(handler) as connection:
        failed = await failure_of(connection.call("testConnection"))
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, True)
        assert "Connection reset by peer" in failed.detail


async def test_after_a_lost_connection_the_next_one_works() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answer_all(reader, writer)

    async with listening(handler) as port:
        first = await Connection.open("127.0.0.1", port)
        await first.wait_closed()
        assert first.closed
        second = await Connection.open("127.0.0.1", port)
        assert await second.call("testConnection") == 200
        await second.aclose()
        await first.aclose()


# Callers that go
# ---


async def test_a_cancelled_caller_leaves_its_call_in_flight() -> None:
    came, go = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls = [await read_call(reader) for _ in range(2)]
        came.set()
        await go.wait()
        writer.write(b"".join(framed(answer_to(call)) for call in calls))
        await answer_all(reader, writer)

    observed = Observed()
    async with connected(handler, observe=observed) as connection:
        gone = asyncio.create_task(connection.call("pathForTransformer", transformerId=1))
        stays = asyncio.create_task(connection.call("pathForTransformer", transformerId=2))
        await came.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert connection.unanswered == 2
        go.set()
        assert await stays == "path of 2"
        assert await connection.call("pathForTransformer", transformerId=3) == "path of 3"
    assert [result for _, result in observed] == ["ok"] * 3


async def test_a_caller_may_go_in_the_moment_in_which_its_call_fails() -> None:
    async with connected(silence) as connection:
        call = asyncio.create_task(connection.call("testConnection"))
        await until(lambda: connection.unanswered == 1)
        connection.abort()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        del call  # asyncio reports exceptions that nobody looks at; the fixture sees it


# What is not sent
# ---


async def test_a_call_is_sent_only_if_it_may_be() -> None:
    came: list[Call] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            came.append(await read_call(reader))
            writer.write(framed(answer_to(came[-1])))

    may, observed = iter([True, False, True]), Observed()
    async with connected(handler, may_send=lambda: next(may), observe=observed) as connection:
        first, second, third = await asyncio.gather(
            *(connection.call("pathForTransformer", transformerId=number) for number in range(3)),
            return_exceptions=True,
        )
        assert (first, third) == ("path of 0", "path of 2")
        assert isinstance(second, CallFailed)
        assert (second.kind, second.answered, second.sent) == (
            CallErrorKind.NOT_WRITER,
            False,
            False,
        )
        assert [call.arguments["transformerId"] for call in came] == [0, 2]
    assert sorted(result for _, result in observed) == ["not_writer", "ok", "ok"]


async def test_a_call_that_is_too_long_is_refused_and_the_longest_is_sent() -> None:
    lengths: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = await read_call(reader)
        lengths.append(len(call.arguments["value"]))
        writer.write(framed(answer_to(call)))
        await silence(reader, writer)

    empty = len(
        encode_call("updateProject", {"projectId": 1, "key": "description", "value": ""}, 0)
    )
    async with connected(handler) as connection:
        text = "x" * (LONGEST_FRAME - empty + 1)
        failed = await failure_of(
            connection.call("updateProject", projectId=1, key="description", value=text)
        )
        assert (failed.kind, failed.answered, failed.sent) == (
            CallErrorKind.TOO_LARGE,
            False,
            False,
        )
        assert "16384001 bytes" in failed.detail
        assert (
            await connection.call("updateProject", projectId=1, key="description", value=text[1:])
            is True
        )
        assert lengths == [LONGEST_FRAME - empty]


async def test_a_value_that_does_not_fit_is_refused_and_the_connection_stays() -> None:
    async with connected(answer_all) as connection:
        failed = await failure_of(
            connection.call("updateProject", projectId=1, key="description", value="\ud800")
        )
        assert (failed.kind, failed.answered, failed.sent) == (
            CallErrorKind.BAD_VALUE,
            False,
            False,
        )
        assert await connection.call("testConnection") == 200


# A server that does not keep up
# ---

MEGABYTE = "x" * 1_000_000


def write_of(connection: Connection, number: int) -> asyncio.Task[Any]:
    return asyncio.create_task(
        connection.call("updateProject", projectId=number, key="description", value=MEGABYTE)
    )


async def test_calls_wait_while_the_server_does_not_read_and_a_cancelled_one_is_not_sent() -> None:
    go, came = asyncio.Event(), list[int]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        while True:
            call = await read_call(reader)
            came.append(call.arguments["projectId"])
            writer.write(framed(answer_to(call)))

    held: list[int] = []

    def may_send() -> bool:
        held.append(connection._writer.transport.get_write_buffer_size())
        return True

    async with connected(handler, may_send=may_send) as connection:
        writes = [write_of(connection, number) for number in range(40)]
        await until(lambda: connection.unanswered > 0)
        for _ in range(10):
            await asyncio.sleep(0.01)  # more would have gone by then
        sent = connection.unanswered
        assert sent < 30
        assert len(held) == sent
        for gone in (writes[sent], writes[sent + 2]):  # the one that is next, and one behind it
            gone.cancel()
        go.set()
        results = await asyncio.gather(*writes, return_exceptions=True)
        stay = [number for number in range(40) if number not in {sent, sent + 2}]
        assert [results[number] for number in stay] == [True] * 38
        assert came == stay
    assert max(held) <= 2**16  # asyncio's limit


async def test_calls_still_waiting_when_the_connection_ended_were_not_sent() -> None:
    go = asyncio.Event()

    async def handler(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await go.wait()

    async with connected(handler, call_seconds=0.3) as connection:
        writes = [write_of(connection, number) for number in range(40)]
        failures = [await failure_of(write) for write in writes]
        assert {failed.kind for failed in failures} == {CallErrorKind.UNREACHABLE}
        assert all("no answer within 0.3 s" in failed.detail for failed in failures)
        sent = [failed.sent for failed in failures]
        assert sent == sorted(sent, reverse=True)
        assert 0 < sent.count(True) < 30
        go.set()


# The end
# ---


@pytest.mark.parametrize("how", ["aclose", "abort"])
async def test_closing_fails_the_calls_without_an_answer(how: str) -> None:
    observed = Observed()
    async with connected(silence, observe=observed) as connection:
        calls = [asyncio.create_task(connection.call("testConnection")) for _ in range(2)]
        await until(lambda: connection.unanswered == 2)
        if how == "aclose":
            await connection.aclose()
        else:
            connection.abort()
        assert connection.closed
        for failed in [await failure_of(call) for call in calls]:
            assert (failed.kind, failed.answered, failed.sent) == (
                CallErrorKind.UNREACHABLE,
                False,
                True,
            )
        assert (await failure_of(connection.call("testConnection"))).sent is False
        await connection.aclose()
        await connection.wait_closed()
    assert observed == [("testConnection", "unreachable")] * 3


async def test_closing_is_seen_by_the_server_at_once() -> None:
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence(reader, writer)
        ended.set()

    async with connected(handler) as connection:
        await connection.aclose()
        async with asyncio.timeout(5):
            await ended.wait()
