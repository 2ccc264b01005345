"""The session that the HTTP targets share: lost requests, signatures, queues, redaction."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs
from yarl import URL

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.http import session as session_module
from daemon.targets.http.answers import first_words
from daemon.targets.http.errors import CallError, ExchangeFailure
from daemon.targets.http.session import AddressHints, Call, HttpSession
from daemon.targets.tls import tls_context
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import Deadlines, answering, json_answer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from daemon.targets.http.answers import Answer, Request
    from daemon.targets.http.errors import ExchangeFailed


class Kind(StrEnum):
    REFUSED = "refused"
    OUT = "out"

    @property
    def is_of_the_server(self) -> bool:
        return self is Kind.OUT


class Failed(CallError):
    failure: ExchangeFailure | None = None


def read(answer: Answer, request: Request) -> str:
    if answer.status == 200:
        return answer.body.decode()
    kind = Kind.OUT if answer.status >= 500 else Kind.REFUSED
    raise Failed(kind, request.operation, first_words(answer, request), status=answer.status)


def failed(error: ExchangeFailed, request: Request) -> Failed:
    made = Failed(Kind.OUT, request.operation, error.detail, outcome_unknown=error.outcome_unknown)
    made.failure = error.failure
    return made


class Asking:
    """Sends calls and remembers what was observed."""

    def __init__(self, url: str, session: HttpSession) -> None:
        self.session = session
        self.observed: list[tuple[str, str]] = []
        self._url = url

    async def send(self, operation: str = "create", **options: Any) -> str:
        url = f"{self._url}/{operation}"
        call = Call("POST", operation, url, URL(url), body=b'{"a":1}')
        return await self.session.send(
            call,
            **{
                "read": read,
                "failed": failed,
                "observe": lambda *seen: self.observed.append(seen),
                **options,
            },
        )

    async def error(self, operation: str = "create", **options: Any) -> Failed:
        with pytest.raises(Failed) as caught:
            await self.send(operation, **options)
        return caught.value


@contextlib.asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[Asking]:
    usual: dict[str, Any] = {
        "headers": {},
        "tls": None,
        "timeout_seconds": 10.0,
        "max_concurrency": 4,
    }
    session = HttpSession(AddressHints("target.where", "try another"), **usual | options)
    try:
        yield Asking(url, session)
    finally:
        await session.aclose()


async def good(_request: web.Request) -> web.Response:
    return web.Response(text="good")


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    return Deadlines(monkeypatch)


# Without an answer
# ---


async def test_a_refused_connection_is_surely_not_sent_by_the_session(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    async with asking(f"http://127.0.0.1:{port}") as client:
        error = await client.error()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CONNECTION, False)
    assert error.detail.startswith(f"create: cannot connect to 127.0.0.1:{port}: ")
    assert client.observed == [("create", "out")]


async def test_a_connect_that_times_out_is_surely_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", 0.01)
    hanging = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hanging.wait()  # no TLS handshake
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        async with asking(f"https://127.0.0.1:{port}") as client:
            error = await client.error()
        hanging.set()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CONNECTION, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
    ids=["before the answer", "in the answer", "in a chunk"],
)
async def test_a_lost_connection_leaves_the_outcome_unknown_by_the_session(raw: bytes) -> None:
    async with answering(raw) as url, asking(url) as client:
        error = await client.error()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CONNECTION, True)


async def test_a_server_that_does_not_speak_http_1() -> None:
    async with answering(b"\x15\x03\x01\x00\x02\x02\x46") as url, asking(url) as client:
        error = await client.error()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.NOT_HTTP, True)
    assert "does not speak HTTP 1" in error.detail
    assert error.detail.endswith("; try another")


async def test_no_answer_in_time_leaves_the_outcome_unknown_and_the_slot_free_by_the_session(
    deadlines: Deadlines,
) -> None:
    hanging = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("create"):
            deadlines.expire()
            await hanging.wait()
        return await good(request)

    async with (
        asyncio.timeout(10),
        serving(handle) as url,
        asking(url, timeout_seconds=deadlines.SECONDS, max_concurrency=1) as client,
    ):
        error = await client.error()
        assert await client.send("get") == "good"
        hanging.set()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.TIMEOUT, True)
    assert error.detail == "create: no answer within 77 s"


async def test_an_answer_that_trickles_is_cut_off_too_by_the_session(deadlines: Deadlines) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for written in itertools.count():
                if written == 5:
                    deadlines.expire()
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    async with (
        asyncio.timeout(10),
        serving(handle) as url,
        asking(url, timeout_seconds=deadlines.SECONDS) as client,
    ):
        assert (await client.error()).failure is ExchangeFailure.TIMEOUT
    assert deadlines.count == 1  # that of the whole call, not one per read


async def test_an_endless_answer_is_not_read_to_its_end_by_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "ANSWER_LIMIT_BYTES", 1000)

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text="x" * 2000)

    async with serving(handle) as url, asking(url) as client:
        assert await client.send() == ""


async def test_an_unforeseen_error_is_the_servers_and_its_text_is_not_shown() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text="hunter" + "2")

    def stumble(answer: Answer, _request: Request) -> str:
        raise KeyError(answer.body.decode())

    async with serving(handle) as url, asking(url) as client:
        with capture_logs() as logs:
            error = await client.error(read=stumble)

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.UNFORESEEN, True)
    assert "an unforeseen error (KeyError); the log has its traceback" in error.detail
    assert "hunter2" not in f"{error.detail}{logs}"


# TLS
# ---


async def test_an_authority_that_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    async with serving(good, ssl=serving_as(authority.issue("server"))) as url:
        async with asking(url) as client:
            error = await client.error()
        async with asking(url, tls=tls_context(authority.file)) as client:
            assert await client.send() == "good"

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CONNECTION, False)
    assert "set target.ca_file to the PEM file" in error.detail


async def test_https_where_it_should_be_http_names_the_setting() -> None:
    async with serving(good) as url, asking(url.replace("http:", "https:")) as client:
        error = await client.error()

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CONNECTION, False)
    assert "does target.where say https where it should be http" in error.detail


# What is sent
# ---


async def test_headers_of_a_request_by_the_session() -> None:
    headers: list[Mapping[str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        headers.append(dict(request.headers))
        response = json_answer(200, {})
        response.set_cookie("session", "x")
        return response

    async with (
        serving(handle) as url,
        asking(url, headers={"X-Tenant": "ml"}, public_headers={"X-Space": "a"}) as client,
    ):
        await client.send()
        await client.send()

    for each in headers:
        assert each["Accept"] == "application/json"
        assert each["Content-Type"] == "application/json"
        assert (each["X-Tenant"], each["X-Space"]) == ("ml", "a")
        assert not {"Cookie", "Origin", "Referer"} & each.keys()


@pytest.mark.parametrize(("force_close", "connections"), [(False, 1), (True, 3)])
async def test_connections_are_kept_alive_unless_asked_otherwise(
    *, force_close: bool, connections: int
) -> None:
    peers = set()

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return await good(request)

    async with serving(handle) as url, asking(url, force_close=force_close) as client:
        for _ in range(3):
            await client.send()

    assert len(peers) == connections


async def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound("/login")

    async with serving(handle) as url, asking(url) as client:
        assert (await client.error()).status == 302
    assert asked == ["/v1/create"]


class Signer:
    def __init__(self, headers: Mapping[str, str] | Exception) -> None:
        self.signed: list[tuple[str, str, bytes]] = []
        self._headers = headers

    async def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        self.signed.append((method, str(url), body))
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers


async def test_every_request_is_signed_as_it_is_sent() -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return await good(request)

    signer = Signer({"Authorization": "AWS4 Signature=1"})
    async with serving(handle) as url, asking(url) as client:
        await client.send(signer=signer)
        await client.send("get", signer=signer)

    assert signer.signed == [
        ("POST", f"{url}/create", b'{"a":1}'),
        ("POST", f"{url}/get", b'{"a":1}'),
    ]
    assert seen == ["AWS4 Signature=1"] * 2


async def test_without_credentials_nothing_is_sent() -> None:
    async def handle(_request: web.Request) -> web.Response:
        pytest.fail("sent")

    none = EdgeFault(Edge.TARGET, Reason.CREDENTIALS, "no credentials in the environment")
    async with serving(handle) as url, asking(url) as client:
        error = await client.error(signer=Signer(none))

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CREDENTIALS, False)
    assert error.detail == "create: no credentials in the environment"
    assert client.observed == [("create", "out")]
    assert client.session.outages == 1


async def test_credentials_that_never_come_are_given_up(deadlines: Deadlines) -> None:
    class Hanging:
        async def headers(self, _method: str, _url: URL, _body: bytes) -> Mapping[str, str]:
            deadlines.expire()
            await asyncio.Event().wait()
            return {}

    async with (
        asyncio.timeout(10),
        asking("http://127.0.0.1:1", timeout_seconds=deadlines.SECONDS) as client,
    ):
        error = await client.error(signer=Hanging())

    assert (error.failure, error.outcome_unknown) == (ExchangeFailure.CREDENTIALS, False)
    assert error.detail == "create: no credentials within 77 s"


# Echoes
# ---


async def test_no_secret_comes_back_from_an_echo_by_the_session() -> None:
    async def echo(request: web.Request) -> web.Response:
        names = ("Authorization", "X-Key", "X-Amz-Security-Token", "X-Arn", "X-Space")
        return web.Response(
            status=400, text=" ".join(request.headers.get(name, "") for name in names)
        )

    options = {"headers": {"X-Key": "another-secret"}, "public_headers": {"X-Space": "team-a"}}
    signer = Signer(
        {
            "Authorization": "AWS4 Signature=secret-signature",
            "X-Amz-Security-Token": "secret/token+=",
            "X-Arn": "arn:aws:s:r:a:n/m",
        }
    )
    async with serving(echo) as url, asking(url, **options) as client:
        error = await client.error(signer=signer)
        other = await client.error()  # those of another request are forgotten

    assert "secret" not in f"{error.detail}{error!r}{other.detail}"
    assert "[redacted]" in error.detail
    assert "arn:aws:s:r:a:n/m team-a" in error.detail


async def test_a_basic_login_is_redacted_decoded_too() -> None:
    async def echo(_request: web.Request) -> web.Response:
        return web.Response(status=400, text="no user ml with hunter2-long")

    login = {"Authorization": "Basic bWw6aHVudGVyMi1sb25n"}
    async with serving(echo) as url, asking(url, headers=login) as client:
        assert (await client.error()).detail == "create: no user ml with [redacted]"


# The queue
# ---


async def test_no_more_calls_at_once_than_configured_by_the_session() -> None:
    running, most = 0, 0
    full = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.005)
        running -= 1
        return await good(request)

    async with serving(handle) as url, asking(url, max_concurrency=3) as client:
        await asyncio.gather(*(client.send() for _ in range(20)))

    assert most == 3


async def test_what_waited_through_an_outage_is_not_sent_by_the_session() -> None:
    asked: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("probe"):
            first.set()
            await second.wait()
            return web.Response(status=503, text="down")
        return await good(request)

    async with serving(handle) as url, asking(url, max_concurrency=1) as client:
        failing = asyncio.create_task(client.error("probe"))
        await first.wait()
        waiting = [asyncio.create_task(client.error()) for _ in range(5)]
        await asyncio.sleep(0)
        second.set()
        assert (await failing).status == 503
        for error in await asyncio.gather(*waiting):
            assert (error.kind, error.outcome_unknown) == (Kind.OUT, False)
            assert error.detail == "create: not sent, because meanwhile probe: down"
            assert error.status is None
        assert asked == ["/v1/probe"]
        assert client.observed == [("probe", "out")]

        assert await client.send() == "good"  # what comes later is sent


async def test_a_failure_of_one_call_alone_does_not_stop_the_queue_by_the_session() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=400 if request.path.endswith("bad") else 200, text="good")

    async with serving(handle) as url, asking(url, max_concurrency=1) as client:
        bad, sent = await asyncio.gather(client.error("bad"), client.send())

    assert (bad.kind, sent, client.session.outages) == (Kind.REFUSED, "good", 0)


async def test_cancelled_calls_give_their_slot_back_by_the_session() -> None:
    arrived, hanging = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if not arrived.is_set():
            arrived.set()
            await hanging.wait()
        return await good(request)

    async with serving(handle) as url, asking(url, max_concurrency=1) as client:
        call = asyncio.create_task(client.send())
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.send() == "good"
        hanging.set()

    assert client.observed == [("create", "interrupted"), ("create", "ok")]


async def test_a_cancelled_signature_gives_its_slot_back() -> None:
    signing = asyncio.Event()

    class Hanging:
        async def headers(self, _method: str, _url: URL, _body: bytes) -> Mapping[str, str]:
            signing.set()
            await asyncio.Event().wait()
            return {}

    async with serving(good) as url, asking(url, max_concurrency=1) as client:
        call = asyncio.create_task(client.send(signer=Hanging()))
        await signing.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.send() == "good"
