"""Jobs, an in-memory journal and scenes for tests of the ModelDB V2 target."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import NameLocked
from daemon.demo.modeldb_v2.store import new_id
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.target import ModelDbV2Target
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.training_run import Hyperparameter, Metric, TrainingRun
from tests.support.modeldb_v2_scripted import CLIENT_OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from daemon.targets.ports import TargetRun
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

CREATE = "createExperimentRun"
CLOSING: tuple[int, Mapping[str, Any]] = (503, {"code": 14, "message": "transport is closing"})
"""Status and body when the proxy loses the back-end during a call."""
BARE_500: tuple[int, Mapping[str, Any]] = (500, {"code": 2})
CREATED = datetime(2025, 11, 20, 8, 40, 0, 50_000, UTC)


def job(
    name: str = "churn-1",
    *,
    created: datetime = CREATED,
    account: str = "123456789012",
    **members: Any,
) -> TrainingRun:
    """A finished job. Members of `TrainingRun` by name."""
    arn = JobArn.parse(f"arn:aws:sagemaker:eu-west-1:{account}:training-job/{name}")
    run = TrainingRun(
        mark=JobMark.of(arn, created),
        arn=arn,
        name=name,
        creation_time=created,
        project_name="customer-churn",
        project_user="amara",
        project_description="Who leaves next month",
        model_name="churn-xgb",
        model_type="XGBoost",
        status="Completed",
        hyperparameters=(Hyperparameter("eta", "0.2", 0.2),),
        metrics=(Metric("train:auc", 0.99),),
    )
    return replace(run, **members)


class MemoryJournal:
    """A `WriteJournal` without a checkpoint. Journals that share `locks` exclude each other as
    claims of one checkpoint do.
    """

    def __init__(
        self,
        *,
        unanswered_writes: int = 0,
        look_up_first: bool = False,
        locks: set[str] | None = None,
    ) -> None:
        self.unanswered_writes = unanswered_writes
        self.look_up_first = look_up_first
        self.locks = set() if locks is None else locks
        self.begun: list[str] = []
        self.locked: list[str] = []
        self.steps: Mapping[str, str] = {}
        self.refusal: Exception | None = None
        self._open = False

    async def begin_write(self, lock_name: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.begun.append(lock_name)
        self.unanswered_writes += 1
        self._open = True

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        self.steps = {**self.steps, **steps}

    def answered(self) -> None:
        assert self._open, "no create is under way"
        self._open = False
        self.unanswered_writes -= 1

    def settled(self) -> None:
        self.unanswered_writes = 0

    @contextlib.asynccontextmanager
    async def name_lock(self, lock_name: str) -> AsyncIterator[None]:
        if lock_name in self.locks:
            raise NameLocked(lock_name, 60.0)
        self.locks.add(lock_name)
        self.locked.append(lock_name)
        try:
            yield
        finally:
            self.locks.remove(lock_name)


class Settling:
    """Stands in for the settle time; `during` runs in it."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.during: Callable[[], Awaitable[object]] | None = None

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.during is not None:
            await self.during()


@contextlib.asynccontextmanager
async def target_of(
    url: str,
    settling: Settling | None = None,
    *,
    client: type[ModelDbV2Client] = ModelDbV2Client,
    **options: Any,
) -> AsyncIterator[ModelDbV2Target]:
    """A target with its client; options of either by name."""
    of_client = {name: options.pop(name, value) for name, value in CLIENT_OPTIONS.items()}
    target = ModelDbV2Target(
        client(url, **of_client), settle_seconds=30.0, sleep=settling or Settling(), **options
    )
    try:
        yield target
    finally:
        await target.aclose()


@dataclass(frozen=True, slots=True)
class TargetScene:
    """A server and a target of it."""

    server: ModelDbV2StandIn
    target: ModelDbV2Target
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


@contextlib.asynccontextmanager
async def scene_of(
    server: ModelDbV2StandIn, *, client: type[ModelDbV2Client] = ModelDbV2Client
) -> AsyncIterator[TargetScene]:
    settling = Settling()
    async with target_of(server.url, settling, client=client) as target:
        yield TargetScene(server, target, settling)


async def edge_fault(work: Awaitable[object]) -> EdgeFault:
    with pytest.raises(EdgeFault) as caught:
        await work
    assert caught.value.edge is Edge.TARGET
    return caught.value


async def job_fault(work: Awaitable[object]) -> JobFault:
    with pytest.raises(JobFault) as caught:
        await work
    return caught.value


async def refusal(work: Awaitable[object]) -> JobRefused:
    with pytest.raises(JobRefused) as caught:
        await work
    assert caught.value.reason is Reason.TARGET_REFUSED
    return caught.value


def attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in row["attributes"]}


def duplicate(server: ModelDbV2StandIn, run_id: str, *, later_ms: int = 0, **changed: Any) -> str:
    """Inserts a copy of a run, as an overlapping create does. Returns its id."""
    original = server.store.runs.by_id(run_id)
    assert original is not None
    row = copy.deepcopy(original.row) | {"id": new_id()} | changed
    row["date_created"] = str(int(row["date_created"]) + later_ms)
    server.store.runs.insert(row)
    return str(row["id"])


def run_ids(server: ModelDbV2StandIn) -> set[str]:
    return {row["id"] for row in server.runs()}


def counts(server: ModelDbV2StandIn) -> tuple[int, int, int]:
    """Numbers of projects, experiments and runs."""
    return len(server.projects()), len(server.experiments()), len(server.runs())
