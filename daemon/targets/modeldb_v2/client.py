"""Client of ModelDB V2's REST API: one method per call; each returns a value or raises `ApiError`.

The server does not bear concurrency: beyond 8 calls it gets no faster, beyond 100 it can wedge for
good, and each call in flight when its database goes away leaks connections. The client therefore
limits its concurrency, and calls that waited through an outage fail unsent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from yarl import URL

from daemon.reasons import Edge
from daemon.redaction.forms import secret_forms
from daemon.targets.modeldb_v2.entities import (
    EXPERIMENT,
    EXPERIMENTS,
    PROJECT,
    PROJECTS,
    RUN,
    RUNS,
    deleted,
)
from daemon.targets.modeldb_v2.errors import (
    Answer,
    ApiError,
    ApiErrorKind,
    Request,
    judged,
    not_the_api,
    shortened_line,
)
from daemon.unforeseen import log_once

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from daemon.targets.modeldb_v2.entities import Experiment, Project, Run

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
"""Four times the proxy's own limit."""

IDLE_SECONDS = 4.0
"""Keep-alive time. ModelDB's web front end (Node) closes idle connections after 5 s; a create sent
on one of those would have an unknown outcome."""

CONNECT_SECONDS = 10.0

RUNS_A_PAGE = 100
"""Runs that `find_experiment_runs` returns at most."""

_SHORTEST_SECRET = 6

Value = TypeVar("Value")


class ModelDbV2Client:
    """A client of one server, with one session. Constructed in a running event loop.

    Args:
        base_url: the part before ``/project/…``, such as ``http://host:8080/v1``, without
            credentials and query.
        headers: sent with every request; their values count as secrets.
        tls: for https; None: the system's authorities.
        timeout_seconds: deadline of a call, from when it gets a slot until its answer is read.
        max_concurrency: number of concurrent calls.
        workspace: sent as workspace_name where ModelDB takes one; the open-source server ignores
            it.
        observe: called with (operation, result) of each request; results are ``ok``, the words of
            `ApiErrorKind`, and ``interrupted``.

    Every call raises `ApiError`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        max_concurrency: int,
        workspace: str | None = None,
        observe: Callable[[str, str], None] = lambda _operation, _result: None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self.max_concurrency = max_concurrency
        self._slots = asyncio.Semaphore(max_concurrency)
        self._in_workspace = {} if workspace is None else {"workspace_name": workspace}
        self._observe = observe
        self._secrets = _secrets(headers)
        self._outages = 0
        self._last_outage: tuple[ApiErrorKind, str] | None = None
        self._session = self._open_session({"Accept": "application/json", **headers}, tls)

    def _open_session(
        self, headers: Mapping[str, str], tls: ssl.SSLContext | None
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=tls if tls is not None else True, keepalive_timeout=IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=min(CONNECT_SECONDS, self._timeout_seconds / 2)
            ),
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
            ApiError: the server failed meanwhile; nothing was sent.
        """
        if self._outages != outages and self._last_outage is not None:
            kind, detail = self._last_outage
            raise ApiError(kind, operation, f"not sent, because meanwhile {detail}")

    async def get_projects_page(self) -> Sequence[Project]:
        """The first project of the server; proves that the database answers."""
        query = {"page_number": "1", "page_limit": "1"}
        return await self._ask("GET", "project/getProjects", PROJECTS, query=query)

    async def get_project_by_id(self, project_id: str) -> Project:
        return await self._ask("GET", "project/getProjectById", PROJECT, query={"id": project_id})

    async def find_projects(self, name: str) -> Sequence[Project]:
        """All projects of this name, the oldest first: concurrent creates make duplicates."""
        body = {**self._in_workspace, "predicates": _equal({"name": name}), **_OLDEST_FIRST}
        return await self._ask("POST", "project/findProjects", PROJECTS, body=body)

    async def create_project(self, fields: Mapping[str, Any]) -> Project:
        """Creates a project.

        Args:
            fields: of the request: name, description, attributes, tags.
        """
        body = {**self._in_workspace, **fields}
        return await self._ask("POST", "project/createProject", PROJECT, body=body)

    async def update_project_description(self, project_id: str, description: str) -> Project:
        body = {"id": project_id, "description": description}
        return await self._ask("POST", "project/updateProjectDescription", PROJECT, body=body)

    async def update_project_attribute(self, project_id: str, key: str, value: str) -> Project:
        """Sets an attribute, whether it exists or not."""
        body = {"id": project_id, "attribute": {"key": key, "value": value}}
        return await self._ask("POST", "project/updateProjectAttributes", PROJECT, body=body)

    async def find_experiments(self, project_id: str, name: str) -> Sequence[Experiment]:
        """Every experiment of this name in a project, the oldest first."""
        body = {"project_id": project_id, "predicates": _equal({"name": name}), **_OLDEST_FIRST}
        return await self._ask("POST", "experiment/findExperiments", EXPERIMENTS, body=body)

    async def create_experiment(self, fields: Mapping[str, Any]) -> Experiment:
        """Creates an experiment.

        Args:
            fields: of the request: project_id, name, description, attributes, tags.
        """
        return await self._ask("POST", "experiment/createExperiment", EXPERIMENT, body=fields)

    async def get_experiment_by_id(self, experiment_id: str) -> Experiment:
        query = {"id": experiment_id}
        return await self._ask("GET", "experiment/getExperimentById", EXPERIMENT, query=query)

    async def create_experiment_run(self, fields: Mapping[str, Any]) -> Run:
        """Creates a run with everything in it; the server does it in one transaction.

        Args:
            fields: of the request.
        """
        return await self._ask("POST", "experiment-run/createExperimentRun", RUN, body=fields)

    async def get_experiment_run_by_name(self, experiment_id: str, name: str) -> Run:
        query = {"experiment_id": experiment_id, "name": name}
        return await self._ask("GET", "experiment-run/getExperimentRunByName", RUN, query=query)

    async def get_experiment_run_by_id(self, run_id: str) -> Run:
        query = {"id": run_id}
        return await self._ask("GET", "experiment-run/getExperimentRunById", RUN, query=query)

    async def find_experiment_runs(self, equal: Mapping[str, str]) -> Sequence[Run]:
        """The runs on the server that match every condition, the oldest first.

        Args:
            equal: values by ``name`` or ``attributes.<key>``.
        """
        body = {
            **self._in_workspace,
            "predicates": _equal(equal),
            **_OLDEST_FIRST,
            "page_number": 1,
            "page_limit": RUNS_A_PAGE,
        }
        return await self._ask("POST", "experiment-run/findExperimentRuns", RUNS, body=body)

    async def delete_experiment_runs(self, run_ids: Sequence[str]) -> None:
        """Deletes runs. `ApiErrorKind.ABSENT` if none of them exists any more."""
        await self._ask(
            "DELETE", "experiment-run/deleteExperimentRuns", deleted, body={"ids": list(run_ids)}
        )

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], Value],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Value:
        """One call, from waiting for a slot to its result."""
        url = f"{self._base}/{path}"
        data = (
            None
            if body is None
            else json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        )
        request = Request(
            path.rpartition("/")[2], url, 0 if data is None else len(data), self._scrub
        )
        outages = self._outages
        async with self._slots:
            self.refuse_if_out_since(outages, request.operation)
            result = "interrupted"
            try:
                try:
                    answer = await self._exchange(method, request, query, data)
                    content = judged(answer, request)
                    try:
                        value = read(content)
                    except (ValueError, TypeError) as error:
                        raise not_the_api(answer, request, str(error)) from error
                except ApiError:
                    raise
                except Exception as error:
                    raise _unforeseen(request, error) from error
                result = "ok"
            except ApiError as error:
                result = error.kind
                if error.kind.is_of_the_server:
                    self._outages += 1
                    self._last_outage = (error.kind, error.detail)
                raise
            finally:
                self._observe(request.operation, result)
        return value

    async def _exchange(
        self, method: str, request: Request, query: Mapping[str, str] | None, data: bytes | None
    ) -> Answer:
        """The HTTP part of a call.

        Raises:
            ApiError: `ApiErrorKind.TIMEOUT`, `ApiErrorKind.CONNECTION` or, if the answer is not
                HTTP, `ApiErrorKind.NOT_THE_API`.
        """

        def lost(kind: ApiErrorKind, detail: str, *, unknown: bool) -> ApiError:
            return ApiError(kind, request.operation, detail, outcome_unknown=unknown)

        headers = {} if data is None else {"Content-Type": "application/json"}
        stream = None if data is None else io.BytesIO(data)
        url = URL(request.url)
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.request(
                    method, url, params=query, data=stream, headers=headers, allow_redirects=False
                ) as response,
            ):
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
                ApiErrorKind.CONNECTION,
                f"{url.authority} is not trusted: {_said(error)}; {hint}",
                unknown=False,
            ) from error
        except aiohttp.ClientConnectorSSLError as error:
            hint = "does target.url say https where it should be http, or name another port?"
            raise lost(
                ApiErrorKind.CONNECTION,
                f"no TLS with {url.authority}: {_said(error)}; {hint}",
                unknown=False,
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise lost(
                ApiErrorKind.CONNECTION,
                f"cannot connect to {url.authority}: {_said(error)}",
                unknown=False,
            ) from error
        except TimeoutError as error:
            raise lost(
                ApiErrorKind.TIMEOUT, f"no answer within {self._timeout_seconds:g} s", unknown=True
            ) from error
        except aiohttp.ClientResponseError as error:
            said = shortened_line(self._scrub(error.message), 80)
            what = f"{request.url} does not speak HTTP 1 ({said})"
            hint = (
                "ModelDB's port 8085 is gRPC; its REST proxy listens on 8080, its web front end on "
                "3000"
            )
            raise lost(ApiErrorKind.NOT_THE_API, f"{what}; {hint}", unknown=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise lost(
                ApiErrorKind.CONNECTION,
                f"the connection to {url.authority} was lost: {_said(error)}",
                unknown=True,
            ) from error

    def _scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _unforeseen(request: Request, error: Exception) -> ApiError:
    log_once(Edge.TARGET, request.operation, error)
    return ApiError(
        ApiErrorKind.NOT_THE_API,
        request.operation,
        f"an unforeseen error ({type(error).__name__}); the log has its traceback",
        outcome_unknown=True,
        unforeseen=True,
    )


_OLDEST_FIRST = {"sort_key": "date_created", "ascending": True}


def _equal(conditions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value, "operator": "EQ"} for key, value in conditions.items()]


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            response.close()
            return b""  # no answer of the API is that long; an empty one is refused, too
    return bytes(body)


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets to redact from echoes, in every form, the longest first so that none leaves a
    part behind. Of a basic login also the password, which the server knows decoded.
    """
    values = [*headers.values(), *(word for value in headers.values() for word in value.split())]
    # cookies
    values += [
        part for value in headers.values() if "=" in value for part in re.split(r"[;=]\s*", value)
    ]
    for value in headers.values():
        scheme, _, login = value.partition(" ")
        if scheme == "Basic":
            with contextlib.suppress(ValueError):  # one of target.headers, and no valid login
                values.append(base64.b64decode(login).decode().partition(":")[2])
    words = {word for word in values if len(word) >= _SHORTEST_SECRET}
    forms = {form for word in words for form in secret_forms(word)}
    return tuple(sorted(forms, key=len, reverse=True))


def _said(error: Exception) -> str:
    return shortened_line(str(error), 200) or type(error).__name__
