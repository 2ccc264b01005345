"""Client of ModelDB V2's REST API: one method per call; each returns a value or raises `ApiError`.

The server does not bear concurrency: beyond 8 calls it gets no faster, beyond 100 it can wedge for
good, and each call in flight when its database goes away leaks connections. The client therefore
limits its concurrency, and calls that waited through an outage fail unsent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from yarl import URL

from daemon.targets.http.errors import ExchangeFailure
from daemon.targets.http.session import AddressHints, Call, HttpSession
from daemon.targets.modeldb_v2.entities import (
    EXPERIMENT,
    EXPERIMENTS,
    PROJECT,
    PROJECTS,
    RUN,
    RUNS,
    deleted,
    nothing,
)
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind, judged, not_the_api
from daemon.targets.modeldb_v2.run_content import run_content

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    import aiohttp

    from daemon.targets.http.answers import Answer, Request
    from daemon.targets.http.errors import ExchangeFailed
    from daemon.targets.modeldb_v2.entities import Experiment, Project, Run
    from daemon.targets.modeldb_v2.run_content import RunContent

_HINTS = AddressHints(
    "target.url",
    "ModelDB's port 8085 is gRPC; its REST proxy listens on 8080, its web front end on 3000",
)

RUNS_A_PAGE = 100
"""Runs that `find_experiment_runs` returns at most."""

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
        client_session: instead of the usual one, for tests.

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
        client_session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self.max_concurrency = max_concurrency
        self._in_workspace = {} if workspace is None else {"workspace_name": workspace}
        self._observe = observe
        self._session = HttpSession(
            _HINTS,
            headers=headers,
            tls=tls,
            timeout_seconds=timeout_seconds,
            max_concurrency=max_concurrency,
            client_session=client_session,
        )

    async def aclose(self) -> None:
        await self._session.aclose()

    @property
    def outages(self) -> int:
        """Number of calls that failed by a fault of the server as a whole."""
        return self._session.outages

    def refuse_if_out_since(self, outages: int, operation: str) -> None:
        """For callers that queue: calls that waited through an outage must not hit a server that is
        down or just back all at once.

        Args:
            outages: the count when the waiting began.
            operation: the call that waited.

        Raises:
            ApiError: the server failed meanwhile; nothing was sent.
        """
        self._session.refuse_if_out_since(outages, operation)

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

    async def create_experiment_run(
        self, fields: Mapping[str, Any], ready: Callable[[], None] = lambda: None
    ) -> Run:
        """Creates a run with everything in it; the server does it in one transaction.

        Args:
            fields: of the request.
            ready: as `HttpSession.send`.
        """
        path = "experiment-run/createExperimentRun"
        return await self._ask("POST", path, RUN, body=fields, ready=ready)

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

    async def get_run_content(self, run_id: str) -> RunContent:
        """All of a run."""
        query = {"id": run_id}
        return await self._ask(
            "GET", "experiment-run/getExperimentRunById", run_content, query=query
        )

    async def update_run_description(self, run_id: str, description: str) -> Run:
        body = {"id": run_id, "description": description}
        path = "experiment-run/updateExperimentRunDescription"
        return await self._ask("POST", path, RUN, body=body)

    async def add_run_tags(self, run_id: str, tags: Sequence[str]) -> Run:
        """Adds the tags that the run does not have."""
        body = {"id": run_id, "tags": list(tags)}
        return await self._ask("POST", "experiment-run/addExperimentRunTags", RUN, body=body)

    async def delete_run_tags(self, run_id: str, tags: Sequence[str]) -> Run:
        body = {"id": run_id, "tags": list(tags)}
        return await self._ask("DELETE", "experiment-run/deleteExperimentRunTags", RUN, body=body)

    async def log_run_entries(
        self, run_id: str, member: str, entries: Sequence[Mapping[str, Any]]
    ) -> None:
        """Adds entries to a run. `ApiErrorKind.EXISTS`, and nothing added, if it has one of the
        keys; observations are added in any case.

        Args:
            run_id: of the run.
            member: hyperparameters, metrics, attributes, artifacts or observations.
            entries: at least one.
        """
        body = {"id": run_id, member: list(entries)}
        path = f"experiment-run/log{member.capitalize()}"
        await self._ask("POST", path, nothing, body=body)

    async def delete_run_entries(self, run_id: str, member: str, keys: Sequence[str]) -> None:
        """Deletes the entries of these keys; unknown keys are ignored.

        Args:
            run_id: of the run.
            member: hyperparameters, metrics, attributes or observations.
            keys: at least one.
        """
        name = "ExperimentRunAttributes" if member == "attributes" else member.capitalize()
        body = {"id": run_id, f"{member.removesuffix('s')}_keys": list(keys)}
        await self._ask("DELETE", f"experiment-run/delete{name}", nothing, body=body)

    async def overwrite_run_datasets(
        self, run_id: str, datasets: Sequence[Mapping[str, Any]]
    ) -> None:
        """Adds data sets, and replaces those of the same keys."""
        body = {"id": run_id, "datasets": list(datasets), "overwrite": True}
        await self._ask("POST", "experiment-run/logDatasets", nothing, body=body)

    async def delete_run_artifact(self, run_id: str, key: str) -> None:
        """Deletes an artifact; an unknown key is ignored."""
        body = {"id": run_id, "key": key}
        await self._ask("DELETE", "experiment-run/deleteArtifact", nothing, body=body)

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], Value],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Value:
        """One call, from waiting for a slot to its result."""
        url = f"{self._base}/{path}"
        data = (
            None
            if body is None
            else json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        )
        call = Call(method, path.rpartition("/")[2], url, URL(url), query, data)

        def result(answer: Answer, request: Request) -> Value:
            content = judged(answer, request)
            try:
                return read(content)
            except (ValueError, TypeError) as error:
                raise not_the_api(answer, request, str(error)) from error

        return await self._session.send(
            call, read=result, failed=_failed, observe=self._observe, ready=ready
        )


def _failed(failed: ExchangeFailed, request: Request) -> ApiError:
    return ApiError(
        _KIND_OF_FAILURE[failed.failure],
        request.operation,
        failed.detail,
        outcome_unknown=failed.outcome_unknown,
        unforeseen=failed.failure is ExchangeFailure.UNFORESEEN,
    )


_KIND_OF_FAILURE = {
    ExchangeFailure.CONNECTION: ApiErrorKind.CONNECTION,
    ExchangeFailure.TIMEOUT: ApiErrorKind.TIMEOUT,
    ExchangeFailure.CREDENTIALS: ApiErrorKind.UNAUTHENTICATED,
    ExchangeFailure.NOT_HTTP: ApiErrorKind.NOT_THE_API,
    ExchangeFailure.UNFORESEEN: ApiErrorKind.NOT_THE_API,
}

_OLDEST_FIRST = {"sort_key": "date_created", "ascending": True}


def _equal(conditions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value, "operator": "EQ"} for key, value in conditions.items()]
