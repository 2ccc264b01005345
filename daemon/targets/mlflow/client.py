"""Client of MLflow's REST API: one method per call; each returns a value or raises `ApiError`.

The server parses a body up to the first value of a wrong type, stores what stood before it, drops
the rest and answers 200. All bodies are therefore made here, of exact types: a value that the
server would misread raises `UnsendableValue` before anything is sent. In a create, the members
that the answer repeats come before the tags, so that a loss would show.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from yarl import URL

from daemon.targets.http.errors import ExchangeFailure
from daemon.targets.http.session import AddressHints, Call
from daemon.targets.mlflow.entities import (
    CONTEXT_TAG,
    EXPERIMENT,
    EXPERIMENTS,
    MODEL_VERSION,
    MODEL_VERSIONS,
    RUN,
    RUNS,
    experiment_id,
    nothing,
    registered_model,
    run_status,
)
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind, judged, not_the_api
from daemon.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.targets.http.answers import Answer, Request
    from daemon.targets.http.errors import ExchangeFailed
    from daemon.targets.http.session import HttpSession, RequestSigner
    from daemon.targets.mlflow.entities import (
        DatasetInput,
        Experiment,
        MetricPoint,
        ModelVersion,
        Run,
    )

HINTS = AddressHints(
    "target.tracking_uri", "is it the address of MLflow's web pages, such as http://host:5000?"
)
"""For the `HttpSession` of this client."""

RUNS_A_PAGE = 1000
VERSIONS_A_PAGE = 200
"""Of model versions; servers take at least this many."""

STATUSES = frozenset({"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"})

_INT64 = 2**63

Value = TypeVar("Value")


class UnsendableValue(TypeError):
    """A value that MLflow would misread, from a caller in this program: a bug. Names the place, not
    the value.
    """


class MlflowClient:
    """A client of one server. Constructed in a running event loop.

    Args:
        session: made with `HINTS`; closed with the client.
        base_url: the part before ``/api/2.0/mlflow``, without credentials and query.
        signer: makes headers for each request.
        observe: called with (operation, result) of each request; results are ``ok``, the words of
            `ApiErrorKind`, and ``interrupted``.

    Every call raises `ApiError`; those that take a text, a number or a time `UnsendableValue`, too.
    """

    def __init__(
        self,
        session: HttpSession,
        base_url: str,
        *,
        signer: RequestSigner | None = None,
        observe: Callable[[str, str], None] = lambda _operation, _result: None,
    ) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._signer = signer
        self._observe = observe

    async def aclose(self) -> None:
        await self._session.aclose()

    @property
    def max_concurrency(self) -> int:
        """Number of concurrent calls."""
        return self._session.max_concurrency

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

    # Experiments

    async def get_experiment_by_name(self, name: str) -> Experiment:
        """The experiment of exactly this name; deleted ones, too."""
        query = {"experiment_name": name}
        return await self._get("experiments/get-by-name", query, EXPERIMENT)

    async def get_experiment(self, experiment_id: str) -> Experiment:
        return await self._get("experiments/get", {"experiment_id": experiment_id}, EXPERIMENT)

    async def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Creates an experiment and returns its id. `ApiErrorKind.EXISTS` if the name is taken, be
        it by a deleted one; on MySQL `ApiErrorKind.DATABASE_REFUSED`, so look again after both.
        """
        body = {"name": _text(name, "name"), "tags": _tags(tags)}
        return await self._send("POST", "experiments/create", body, experiment_id)

    async def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        """Sets a tag, whether it exists or not."""
        body = {"experiment_id": _text(experiment_id, "experiment_id"), **_entry(key, value)}
        await self._send("POST", "experiments/set-experiment-tag", body, nothing)

    async def search_experiments(
        self, *, max_results: int, page_token: str = ""
    ) -> tuple[Sequence[Experiment], str]:
        """A page of the experiments, deleted ones too; reads the database.

        Args:
            max_results: of the page; 1 to 50,000.
            page_token: empty: the first page.

        Returns:
            The page, and the token of the next one: empty after the last.
        """
        body: dict[str, Any] = {
            "max_results": _integer(max_results, "max_results"),
            "view_type": "ALL",
        }
        if page_token:
            body["page_token"] = _text(page_token, "page_token")
        return await self._send("POST", "experiments/search", body, EXPERIMENTS)

    # Runs

    async def create_run(
        self,
        experiment_id: str,
        *,
        run_name: str,
        start_time: int,
        tags: Mapping[str, str],
        ready: Callable[[], None] = lambda: None,
    ) -> Run:
        """Creates a run with all tags in one transaction: RUNNING. Not idempotent. Compare the tags
        of the answer with those that were given.

        Args:
            experiment_id: of an active experiment.
            run_name: not unique.
            start_time: epoch milliseconds.
            tags: any number.
            ready: as `HttpSession.send`.
        """
        body = {
            "experiment_id": _text(experiment_id, "experiment_id"),
            "run_name": _text(run_name, "run_name"),
            "start_time": _integer(start_time, "start_time"),
            "tags": _tags(tags),
        }
        return await self._send("POST", "runs/create", body, RUN, ready)

    async def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds metric values, params and tags to a run, all or none. Idempotent, with at most 100
        metrics in a batch. `ApiErrorKind.INVALID` if a param has another value.
        """
        body = {
            "run_id": _text(run_id, "run_id"),
            "metrics": [_metric(point, f"metrics[{at}]") for at, point in enumerate(metrics)],
            "params": _tags(params or {}, "params"),
            "tags": _tags(tags or {}),
        }
        await self._send("POST", "runs/log-batch", body, nothing)

    async def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        """Adds data sets to a run. Idempotent."""
        datasets = [_input(each, f"datasets[{at}]") for at, each in enumerate(inputs)]
        body = {"run_id": _text(run_id, "run_id"), "datasets": datasets}
        await self._send("POST", "runs/log-inputs", body, nothing)

    async def update_run(
        self,
        run_id: str,
        *,
        status: str | None = None,
        end_time: int | None = None,
        run_name: str | None = None,
    ) -> None:
        """Changes a run. Idempotent. `ApiErrorKind.INTERNAL` if the answer shows another status.

        Args:
            run_id: of an active run.
            status: one of `STATUSES`; None: as it is.
            end_time: epoch milliseconds; None: as it is.
            run_name: None: as it is.
        """
        body: dict[str, Any] = {"run_id": _text(run_id, "run_id")}
        if status is not None:
            body["status"] = _text(status, "status")
            if status not in STATUSES:
                raise UnsendableValue("status is none of MLflow's")
        if end_time is not None:
            body["end_time"] = _integer(end_time, "end_time")
        if run_name is not None:
            body["run_name"] = _text(run_name, "run_name")
        now = await self._send("POST", "runs/update", body, run_status)
        if status is not None and now != status:
            raise ApiError(
                ApiErrorKind.INTERNAL,
                "runs/update",
                f"the run's status is not {status} after it was set",
                outcome_unknown=True,
            )

    async def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Sets a tag of a run, whether it exists or not."""
        body = {"run_id": _text(run_id, "run_id"), **_entry(key, value)}
        await self._send("POST", "runs/set-tag", body, nothing)

    async def delete_tag(self, run_id: str, key: str) -> None:
        """Deletes a tag of a run. `ApiErrorKind.ABSENT` if it has none of this key."""
        body = {"run_id": _text(run_id, "run_id"), "key": _text(key, "key")}
        await self._send("POST", "runs/delete-tag", body, nothing)

    async def get_run(self, run_id: str) -> Run:
        """All of a run but the earlier values of its metrics; deleted ones, too."""
        return await self._get("runs/get", {"run_id": run_id}, RUN)

    async def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        *,
        view: str = "ALL",
        max_results: int = RUNS_A_PAGE,
    ) -> Sequence[Run]:
        """All runs of these experiments that match.

        Args:
            experiment_ids: without any, MLflow finds nothing.
            filter_string: in MLflow's language; quotes in values cannot be escaped.
            view: ACTIVE_ONLY, DELETED_ONLY or ALL.
            max_results: of a page; 1 to 50,000.
        """
        body = {
            "experiment_ids": [_text(each, "experiment_ids") for each in experiment_ids],
            "filter": _text(filter_string, "filter"),
            "run_view_type": _text(view, "view"),
            "max_results": _integer(max_results, "max_results"),
        }
        return await self._pages(
            "runs/search",
            lambda token: self._send(
                "POST", "runs/search", body | ({"page_token": token} if token else {}), RUNS
            ),
        )

    async def delete_run(self, run_id: str) -> None:
        """Marks a run as deleted. Idempotent."""
        await self._send("POST", "runs/delete", {"run_id": _text(run_id, "run_id")}, nothing)

    # Registered models

    async def create_registered_model(self, name: str, description: str = "") -> None:
        """Creates a registered model. `ApiErrorKind.EXISTS` if there is one of this name."""
        body = {"name": _text(name, "name"), "description": _text(description, "description")}
        await self._send("POST", "registered-models/create", body, registered_model)

    async def get_registered_model(self, name: str) -> None:
        """`ApiErrorKind.ABSENT` if there is no registered model of this name."""
        await self._get("registered-models/get", {"name": name}, registered_model)

    async def create_model_version(
        self,
        name: str,
        *,
        source: str,
        run_id: str,
        run_link: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> ModelVersion:
        """Creates the next version of a registered model. Not idempotent.

        Args:
            name: of the registered model.
            source: URI of the model, with a path.
            run_id: of the run that made it.
            run_link: address of its page; None: none.
            description: of the version.
            tags: of the version.
            ready: as `HttpSession.send`.
        """
        body = {
            "name": _text(name, "name"),
            "source": _text(source, "source"),
            "run_id": _text(run_id, "run_id"),
            **({} if run_link is None else {"run_link": _text(run_link, "run_link")}),
            "description": _text(description, "description"),
            "tags": _tags(tags or {}),
        }
        return await self._send("POST", "model-versions/create", body, MODEL_VERSION, ready)

    async def search_model_versions(self, filter_string: str) -> Sequence[ModelVersion]:
        """All model versions of the server that match.

        Args:
            filter_string: in MLflow's language, such as ``run_id = '…'``.
        """
        query = {"filter": filter_string, "max_results": str(VERSIONS_A_PAGE)}
        return await self._pages(
            "model-versions/search",
            lambda token: self._get(
                "model-versions/search",
                query | ({"page_token": token} if token else {}),
                MODEL_VERSIONS,
            ),
        )

    async def update_model_version(self, name: str, version: str, description: str) -> None:
        """Changes the description of a version."""
        body = {
            "name": _text(name, "name"),
            "version": _text(version, "version"),
            "description": _text(description, "description"),
        }
        await self._send("PATCH", "model-versions/update", body, MODEL_VERSION)

    async def delete_model_version(self, name: str, version: str) -> None:
        """Deletes a version for good. `ApiErrorKind.ABSENT` if there is none."""
        body = {"name": _text(name, "name"), "version": _text(version, "version")}
        await self._send("DELETE", "model-versions/delete", body, nothing)

    # The calls

    async def _pages(
        self,
        operation: str,
        page: Callable[[str], Any],
    ) -> tuple[Any, ...]:
        found: list[Any] = []
        token, seen = "", set[str]()
        while True:
            entities, token = await page(token)
            found += entities
            if not token:
                return tuple(found)
            if token in seen:
                raise ApiError(
                    ApiErrorKind.NOT_THE_API, operation, "a search whose pages never end"
                )
            seen.add(token)

    async def _get(
        self,
        path: str,
        query: Mapping[str, str],
        read: Callable[[Mapping[str, Any]], Value],
    ) -> Value:
        # %20 for spaces: with + the signature of AWS does not fit
        texts = {key: _text(value, key) for key, value in query.items()}
        return await self._ask("GET", path, read, query=urlencode(texts, quote_via=quote, safe=""))

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], Value],
        ready: Callable[[], None] = lambda: None,
    ) -> Value:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return await self._ask(method, path, read, body=text.encode(), ready=ready)

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], Value],
        *,
        query: str = "",
        body: bytes | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Value:
        """One call, from waiting for a slot to its result."""
        url = f"{self._base}/api/2.0/mlflow/{path}"
        address = URL(f"{URL(url)}?{query}", encoded=True) if query else URL(url)

        def result(answer: Answer, request: Request) -> Value:
            content = judged(answer, request)
            try:
                return read(content)
            except (ValueError, TypeError) as error:
                raise not_the_api(answer, request, str(error)) from error

        return await self._session.send(
            Call(method, path, url, address, body=body),
            read=result,
            failed=_failed,
            observe=self._observe,
            signer=self._signer,
            ready=ready,
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


def _text(value: object, place: str) -> str:
    """A text as MLflow stores it: with U+FFFD for lone surrogates."""
    if not isinstance(value, str):
        raise UnsendableValue(f"{place} is {type(value).__name__}, not text")
    return without_surrogates(value)


def _integer(value: object, place: str) -> int:
    if type(value) is not int:
        raise UnsendableValue(f"{place} is {type(value).__name__}, not int")
    if not -_INT64 <= value < _INT64:
        raise UnsendableValue(f"{place} is beyond 64 bits")
    return value


def _number(value: object, place: str) -> float | str:
    """A finite number, or the string ``NaN``, which MLflow reads as one."""
    if type(value) not in {int, float}:
        raise UnsendableValue(f"{place} is {type(value).__name__}, not float")
    try:
        number = float(value)  # type: ignore[arg-type] # one of the two types
    except OverflowError:
        raise UnsendableValue(f"{place} is beyond a float") from None
    if math.isinf(number):
        raise UnsendableValue(f"{place} is infinite, which MLflow cannot store")
    return "NaN" if math.isnan(number) else number


def _entry(key: object, value: object, place: str = "tag") -> dict[str, str]:
    return {"key": _text(key, f"{place}.key"), "value": _text(value, f"{place}.value")}


def _tags(texts: Mapping[str, str], place: str = "tags") -> list[dict[str, str]]:
    return [_entry(key, value, place) for key, value in texts.items()]


def _metric(point: MetricPoint, place: str) -> dict[str, Any]:
    return {
        "key": _text(point.key, f"{place}.key"),
        "value": _number(point.value, f"{place}.value"),
        "timestamp": _integer(point.timestamp, f"{place}.timestamp"),
        "step": _integer(point.step, f"{place}.step"),
    }


def _input(given: DatasetInput, place: str) -> dict[str, Any]:
    return {
        "dataset": {
            "name": _text(given.name, f"{place}.name"),
            "digest": _text(given.digest, f"{place}.digest"),
            "source_type": _text(given.source_type, f"{place}.source_type"),
            "source": _text(given.source, f"{place}.source"),
        },
        "tags": _tags({CONTEXT_TAG: given.context}, f"{place}.tags"),
    }
