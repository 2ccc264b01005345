"""Scenes for tests of the MLflow target, and a client whose calls end as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.target import MlflowTarget
from tests.support.target_jobs import MemoryJournal, Settling, job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from daemon.targets.ports import TargetRun
    from daemon.training_job.training_run import TrainingRun
    from tests.support.mlflow_stand_in import MlflowStandIn

ENDS = ("refused", "lost before", "lost after", "cancelled before", "cancelled after")
"""How a call can end badly: not sent; without an answer, not carried out or carried out; likewise
when the attempt is cancelled."""


class InterruptedClient(MlflowClient):
    """A client one of whose calls ends badly.

    Attributes:
        calls: operations of all calls so far.
        at: the number of the call that ends badly, from 1; 0: none.
        end: one of `ENDS`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[str] = []
        self.at = 0
        self.end = ""

    async def _ask(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        self.calls.append(path)
        if len(self.calls) != self.at:
            return await super()._ask(method, path, *arguments, **options)
        if self.end.endswith("after"):
            with contextlib.suppress(ApiError):
                await super()._ask(method, path, *arguments, **options)
        if self.end.startswith("cancelled"):
            raise asyncio.CancelledError
        unknown = method != "GET" and self.end != "refused"
        raise ApiError(ApiErrorKind.CONNECTION, path, "the test says so", outcome_unknown=unknown)


@contextlib.asynccontextmanager
async def target_of(
    url: str,
    settling: Settling | None = None,
    *,
    client: type[MlflowClient] = MlflowClient,
    timeout_seconds: float = 30.0,
    max_concurrency: int = 8,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[MlflowTarget]:
    """A target with its client; options of either by name."""
    session = HttpSession(
        HINTS,
        headers=headers or {},
        tls=None,
        timeout_seconds=timeout_seconds,
        max_concurrency=max_concurrency,
    )
    target = MlflowTarget(
        client(session, url),
        settle_seconds=30.0,
        sleep=settling or Settling(),
        **options,
    )
    try:
        yield target
    finally:
        await target.aclose()


@dataclass(frozen=True, slots=True)
class TargetScene:
    """A server and a target of it."""

    server: MlflowStandIn
    target: MlflowTarget
    settling: Settling

    async def sync(
        self,
        name: str = "churn-1",
        *,
        run: TrainingRun | None = None,
        journal: MemoryJournal | None = None,
        **members: Any,
    ) -> TargetRun:
        """Syncs a job.

        Args:
            name: with `members`: the job, as of `job`.
            run: the job, instead of name and members.
            journal: None: that of a job whose write has never begun.
        """
        return await self.target.sync(run or job(name, **members), journal or MemoryJournal())

    @property
    def client(self) -> MlflowClient:
        """Of the target, for what people do in MLflow."""
        return self.target._client


@contextlib.asynccontextmanager
async def scene_of(server: MlflowStandIn, **options: Any) -> AsyncIterator[TargetScene]:
    settling = Settling()
    async with target_of(server.url, settling, **options) as target:
        yield TargetScene(server, target, settling)


def active(server: MlflowStandIn) -> list[dict[str, Any]]:
    """The runs that are not deleted, oldest first."""
    return [run for run in server.model.runs() if run["info"]["lifecycle_stage"] == "active"]


def deleted(server: MlflowStandIn) -> list[dict[str, Any]]:
    return [run for run in server.model.runs() if run["info"]["lifecycle_stage"] == "deleted"]


def writes(server: MlflowStandIn) -> int:
    """The number of requests so far that could have changed something."""
    reading = ("search", "get", "get-by-name")
    return sum(
        count
        for operation, count in server.requests.items()
        if operation.rpartition("/")[2] not in reading
    )
