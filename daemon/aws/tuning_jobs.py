"""The tuning jobs that training jobs are children of, through DescribeHyperParameterTuningJob."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from daemon.aws.best_effort import BestEffort, NotToBeHadError
from daemon.aws.errors import SAGEMAKER, OddAnswerError, unobserved
from daemon.clock import monotonic
from daemon.text import shortened
from daemon.training_job.field_readers import section, sections, text
from daemon.training_job.tuning_job import FINAL_STATUSES, TuningJob, tuning_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from types_aiobotocore_sagemaker import SageMakerClient

    from daemon.aws.errors import Observe

PROBE_NAME = "modeldb-sync-probe"

RUNNING_SECONDS = 60.0
"""How long the answer about a tuning job that goes on is used for its children."""
FINISHED_SECONDS = 3600.0
MOST_KNOWN = 256
PARENT_SECONDS = 15.0
"""For a child, with the wait for the questions of others."""


class TuningJobs:
    """Asks about one tuning job at a time, and once for children that end together.

    Args:
        client: the SageMaker client.
        observe: called after each call.
    """

    def __init__(self, client: SageMakerClient, observe: Observe = unobserved) -> None:
        self._client = client
        self._calls = BestEffort(SAGEMAKER, "DescribeHyperParameterTuningJob", observe)
        self._turn = asyncio.Lock()
        self._known: OrderedDict[str, tuple[float, Mapping[str, Any] | str]] = OrderedDict()
        """By name: until when, and the answer or why there is none."""

    async def parent_of(
        self, description: Mapping[str, Any]
    ) -> tuple[TuningJob | None, tuple[str, ...]]:
        """The tuning job of a described job. Never raises for what the service does.

        Returns:
            None for a job that is no child, or with a note on why the parent is not known.
        """
        arn = text(description, "TuningJobArn")
        if arn is None:
            return None, ()
        name = _name(arn, text(description, "TrainingJobName") or "")
        try:
            async with asyncio.timeout(PARENT_SECONDS):
                answer = await self._answer(name)
        except TimeoutError:
            why = f"no answer within {PARENT_SECONDS:g} s"
            return None, (f"tuning job {shortened(name, 100)} not read: {why}",)
        except NotToBeHadError as error:
            return None, (f"tuning job {shortened(name, 100)} not read: {error}",)
        return tuning_job(answer, description), ()

    async def probe(self) -> str | None:
        """Tests the call with a tuning job that need not exist.

        Returns:
            Why it cannot succeed, a permission above all; None: it can.
        """
        return await self._calls.probe(self._call(PROBE_NAME))

    async def _answer(self, name: str) -> Mapping[str, Any]:
        async with self._turn:
            until, answer = self._known.get(name, (0.0, ""))
            if monotonic() >= until:
                until, answer = await self._asked(name)
                self._known[name] = (until, answer)
            self._known.move_to_end(name)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        if isinstance(answer, str):
            raise NotToBeHadError(answer)
        return answer

    def _call(self, name: str) -> Callable[[], Awaitable[Mapping[str, Any]]]:
        async def call() -> Mapping[str, Any]:
            answer = await self._client.describe_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=name
            )
            return _kept(name, answer)

        return call

    async def _asked(self, name: str) -> tuple[float, Mapping[str, Any] | str]:
        try:
            answer = await self._calls.ask(self._call(name))
        except NotToBeHadError as error:
            return monotonic() + RUNNING_SECONDS, str(error)
        final = text(answer, "HyperParameterTuningJobStatus") in FINAL_STATUSES
        return monotonic() + (FINISHED_SECONDS if final else RUNNING_SECONDS), answer


def _name(arn: str, child: str) -> str:
    """The name in an ARN, in the case of the child's name, which begins with it."""
    name = arn.rpartition("/")[2]
    return child[: len(name)] if child.lower().startswith(name.lower()) else name


def _kept(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the children need to know; the definitions hold hyperparameters of all of them.

    Raises:
        OddAnswerError: the answer is not about this tuning job.
    """
    found = text(answer, "HyperParameterTuningJobName")
    if found is None or found.lower() != name.lower():
        raise OddAnswerError(
            "DescribeHyperParameterTuningJob: the answer is of another name than asked for"
        )
    config = section(answer, "HyperParameterTuningJobConfig")
    return {
        member: answer.get(member)
        for member in (
            *("HyperParameterTuningJobName", "HyperParameterTuningJobStatus"),
            *("BestTrainingJob", "WarmStartConfig"),
        )
    } | {
        "HyperParameterTuningJobConfig": {
            member: config.get(member)
            for member in ("Strategy", "HyperParameterTuningJobObjective")
        },
        "TrainingJobDefinitions": [
            {"TuningObjective": section(definition, "TuningObjective")}
            for definition in (
                section(answer, "TrainingJobDefinition"),
                *sections(answer, "TrainingJobDefinitions"),
            )
        ],
    }
