"""The real client of MLflow on a `MlflowModel` in this process: no sockets, nothing to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from daemon.targets.http.answers import Answer, Request
from daemon.targets.mlflow.client import MlflowClient
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.demo.mlflow.model import MlflowModel
    from daemon.targets.http.session import Call, HttpSession

_HEADERS = {"Host": "localhost", "Content-Type": "application/json"}


class ModelSession:
    """An `HttpSession` to a model of the server.

    Attributes:
        writes: calls so far that are no searches and no GET.
        last: the number of the write whose answer is lost; 0: none.
    """

    max_concurrency = 8
    outages = 0

    def __init__(self, model: MlflowModel) -> None:
        self._model = model
        self.writes = 0
        self.last = 0

    async def send(
        self,
        call: Call,
        *,
        read: Callable[[Answer, Request], Any],
        **_others: object,
    ) -> Any:
        address = call.address if call.params is None else call.address.update_query(call.params)
        body = call.body or b""
        reply = self._model.answer(
            call.method, address.raw_path, address.raw_query_string, _HEADERS, body
        )
        request = Request(call.operation, call.url, len(body))
        self.writes += call.method != "GET" and not call.operation.endswith("search")
        if 0 < self.last <= self.writes:
            self.last = 0
            raise ApiError(ApiErrorKind.CONNECTION, call.operation, "lost", outcome_unknown=True)
        return read(Answer(reply.status, reply.content_type, reply.body), request)

    def refuse_if_out_since(self, outages: int, operation: str) -> None:
        """Never is it out."""

    async def aclose(self) -> None:
        """Nothing is open."""


def client_of(model: MlflowModel, *, last: int = 0) -> MlflowClient:
    """A client that loses the answer of the write of number `last`; 0: of none."""
    session = ModelSession(model)
    session.last = last
    return MlflowClient(cast("HttpSession", session), "http://localhost")
