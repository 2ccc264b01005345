"""The HTTP session with one server: deadlines, concurrency, and calls that wait out no outage.

A server that is down or just back must not be hit by everything that queued meanwhile: calls that
waited through an outage fail unsent.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import aiohttp

from daemon.errors import EdgeFault, JobFault
from daemon.reasons import Edge
from daemon.targets.http.answers import Answer, Request, shortened_line
from daemon.targets.http.echoes import Echoes
from daemon.targets.http.errors import CallError, ExchangeFailed, ExchangeFailure
from daemon.targets.http.prompt_ack import acknowledge_headers
from daemon.unforeseen import log_once

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from yarl import URL

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
"""Four times the limit of ModelDB's proxy."""

IDLE_SECONDS = 4.0
"""Keep-alive time. ModelDB's web front end (Node) and MLflow's server (uvicorn) close idle
connections after 5 s; a create sent on one of those would have an unknown outcome."""

CONNECT_SECONDS = 10.0

_REFUSED = frozenset({401, 403})
"""What a server answers to credentials that it does not know, or no longer."""

Value = TypeVar("Value")


class RequestSigner(Protocol):
    """Makes the headers that authenticate a request when they are not the same for all."""

    async def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """The additional headers of a request; their values count as secrets, but for ARNs.

        Args:
            method: such as ``POST``.
            url: exactly as it is sent, with its query.
            body: exactly as it is sent; empty without one.

        Raises:
            EdgeFault: there are no credentials.
        """

    def refused(self) -> None:
        """The server refuses the last credentials: newer ones are looked for."""


@dataclass(frozen=True, slots=True)
class AddressHints:
    """What errors of the connection say of the configuration."""

    key: str
    """Configures the address, such as ``target.url``."""
    not_http: str
    """What to do when the server does not speak HTTP 1."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call, ready to be sent.

    Attributes:
        method: such as ``POST``.
        operation: the call's name in errors and metrics.
        url: for people, without query.
        address: where it is sent.
        params: added to the address; spaces as ``+``.
        body: JSON; None: no body.
    """

    method: str
    operation: str
    url: str
    address: URL
    params: Mapping[str, str] | None = None
    body: bytes | None = None


def open_client_session(
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
    *,
    connect_seconds: float,
    force_close: bool = False,
) -> aiohttp.ClientSession:
    """A session without cookies, whose only time-out is that of connecting.

    Args:
        headers: of each request.
        tls: for https; None: the system's authorities.
        connect_seconds: time-out of connecting.
        force_close: a new connection for each request instead of keep-alive.
    """
    trust = tls if tls is not None else True
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trust, force_close=True)
        if force_close
        else aiohttp.TCPConnector(limit=0, ssl=trust, keepalive_timeout=IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
    )


class HttpSession:
    """A session with one server. Constructed in a running event loop.

    Args:
        hints: of the target.
        headers: sent with every request; their values count as secrets.
        public_headers: sent with every request; errors may quote them.
        tls: for https; None: the system's authorities.
        timeout_seconds: deadline of a call, from when it gets a slot until its answer is read.
        max_concurrency: number of concurrent calls.
        force_close: a new connection for each request instead of keep-alive.
        client_session: instead of the usual one, for tests.
    """

    def __init__(
        self,
        hints: AddressHints,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        max_concurrency: int,
        public_headers: Mapping[str, str] | None = None,
        force_close: bool = False,
        client_session: aiohttp.ClientSession | None = None,
    ) -> None:
        self.max_concurrency = max_concurrency
        self._hints = hints
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(max_concurrency)
        self._echoes = Echoes(headers)
        self._outages = 0
        self._last_outage: CallError | None = None
        self._session = client_session or open_client_session(
            {"Accept": "application/json", **headers, **(public_headers or {})},
            tls,
            connect_seconds=min(CONNECT_SECONDS, timeout_seconds / 2),
            force_close=force_close,
        )

    async def aclose(self) -> None:
        await self._session.close()

    @property
    def outages(self) -> int:
        """Number of calls that failed by a fault of the server as a whole."""
        return self._outages

    def refuse_if_out_since(self, outages: int, operation: str) -> None:
        """For callers that queue: calls that waited through an outage must not hit a server that is
        down or just back all at once.

        Args:
            outages: the count when the waiting began.
            operation: the call that waited.

        Raises:
            CallError: the server failed meanwhile; nothing was sent.
        """
        if self._outages != outages and self._last_outage is not None:
            raise self._last_outage.of_unsent(operation)

    async def send(
        self,
        call: Call,
        *,
        read: Callable[[Answer, Request], Value],
        failed: Callable[[ExchangeFailed, Request], CallError],
        observe: Callable[[str, str], None],
        signer: RequestSigner | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Value:
        """One call, from waiting for a slot to its result.

        Args:
            call: what is sent.
            read: makes the result of the answer; raises CallError.
            failed: makes the error of a call without an answer.
            observe: called with (operation, result) of the request; results are ``ok``, the words
                of the kinds of errors, and ``interrupted``.
            signer: adds headers.
            ready: called right before the request is sent; may raise a `JobFault`, and then it is
                not.

        Raises:
            CallError: of the kind that `read` and `failed` make.
            JobFault: of `ready`.
        """
        request = Request(call.operation, call.url, len(call.body or b""), self._echoes.scrub)
        outages = self._outages
        async with self._slots:
            self.refuse_if_out_since(outages, call.operation)
            result = "interrupted"
            try:
                try:
                    headers: Mapping[str, str] = {}
                    if signer is not None:
                        headers = await self._signed(call, signer)
                        request = Request(
                            call.operation, call.url, request.body_bytes, self._scrubbing(headers)
                        )
                    ready()
                    answer = await self._exchange(call, request, headers)
                    if signer is not None and answer.status in _REFUSED:
                        signer.refused()
                    value = read(answer, request)
                except ExchangeFailed as error:
                    raise failed(error, request) from error.__cause__
                except (CallError, JobFault):
                    raise
                except Exception as error:
                    raise failed(_unforeseen(call.operation, error), request) from error
                result = "ok"
            except CallError as error:
                result = error.kind.value
                if error.kind.is_of_the_server:
                    self._outages += 1
                    self._last_outage = error
                raise
            finally:
                observe(call.operation, result)
        return value

    async def _signed(self, call: Call, signer: RequestSigner) -> Mapping[str, str]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await signer.headers(call.method, call.address, call.body or b"")
        except EdgeFault as error:
            raise ExchangeFailed(
                ExchangeFailure.CREDENTIALS, error.detail, outcome_unknown=False
            ) from error
        except TimeoutError as error:
            raise ExchangeFailed(
                ExchangeFailure.CREDENTIALS,
                f"no credentials within {self._timeout_seconds:g} s",
                outcome_unknown=False,
            ) from error

    def _scrubbing(self, headers: Mapping[str, str]) -> Callable[[str], str]:
        secrets = {name: value for name, value in headers.items() if not value.startswith("arn:")}
        # only when an error quotes an answer: the forms of a secret are many
        return lambda text: Echoes(secrets).scrub(self._echoes.scrub(text))

    async def _exchange(
        self, call: Call, request: Request, more_headers: Mapping[str, str]
    ) -> Answer:
        """The HTTP part of a call; raises ExchangeFailed."""

        def lost(failure: ExchangeFailure, detail: str, *, unknown: bool) -> ExchangeFailed:
            return ExchangeFailed(failure, detail, outcome_unknown=unknown)

        def said(error: Exception) -> str:
            return shortened_line(str(error), 200) or type(error).__name__

        headers = {} if call.body is None else {"Content-Type": "application/json"}
        place = call.address.authority
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.request(
                    call.method,
                    call.address,
                    params=call.params,
                    data=None if call.body is None else io.BytesIO(call.body),
                    headers={**headers, **more_headers},
                    allow_redirects=False,
                ) as response,
            ):
                acknowledge_headers(response)
                return Answer(
                    response.status,
                    response.headers.get("Content-Type", ""),
                    await _body(response),
                    response.headers.get("Location", ""),
                )
        except aiohttp.ClientConnectorCertificateError as error:
            hint = (
                "set target.ca_file to the PEM file of its certificate authority, or fix its "
                "certificate"
            )
            raise lost(
                ExchangeFailure.CONNECTION,
                f"{place} is not trusted: {said(error)}; {hint}",
                unknown=False,
            ) from error
        except aiohttp.ClientConnectorSSLError as error:
            hint = (
                f"does {self._hints.key} say https where it should be http, or name another port?"
            )
            raise lost(
                ExchangeFailure.CONNECTION,
                f"no TLS with {place}: {said(error)}; {hint}",
                unknown=False,
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise lost(
                ExchangeFailure.CONNECTION,
                f"cannot connect to {place}: {said(error)}",
                unknown=False,
            ) from error
        except TimeoutError as error:
            raise lost(
                ExchangeFailure.TIMEOUT,
                f"no answer within {self._timeout_seconds:g} s",
                unknown=True,
            ) from error
        except aiohttp.ClientResponseError as error:
            words = shortened_line(request.scrub(error.message), 80)
            raise lost(
                ExchangeFailure.NOT_HTTP,
                f"{call.url} does not speak HTTP 1 ({words}); {self._hints.not_http}",
                unknown=True,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise lost(
                ExchangeFailure.CONNECTION,
                f"the connection to {place} was lost: {said(error)}",
                unknown=True,
            ) from error


def _unforeseen(operation: str, error: Exception) -> ExchangeFailed:
    log_once(Edge.TARGET, operation, error)
    return ExchangeFailed(
        ExchangeFailure.UNFORESEEN,
        f"an unforeseen error ({type(error).__name__}); the log has its traceback",
        outcome_unknown=True,
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            response.close()
            return b""  # no answer of the API is that long; an empty one is refused, too
    return bytes(body)
