"""Jobs and an in-memory journal for tests of targets."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import NameLocked
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.training_run import Hyperparameter, Metric, TrainingRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

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

    def require_lease(self) -> None:
        """Its lease never ends."""

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
