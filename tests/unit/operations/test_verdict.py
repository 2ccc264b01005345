"""The verdict on a message is what the flow then does with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.operations.job_now import job_now
from daemon.operations.verdict import Advice, JobNow, Verdict, verdict
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Edge, Reason
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.tag_defaults import TagDefaults, Template
from tests.support.flow_scene import (
    ACCOUNT,
    CREATED,
    MemoryTrainingJobs,
    arn_of,
    event_body,
    flow_scene,
    message,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GONE = JobRefused(Reason.JOB_GONE, "SageMaker does not have it")
OUTAGE = EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, "SageMaker throttles requests")
ODD = JobFault(Reason.SAGEMAKER_FAULT, "SageMaker's answer cannot be read")


@dataclass(frozen=True)
class Case:
    """One message, what SageMaker answers, and what is said of it."""

    words: str
    advice: Advice
    event: Mapping[str, Any] = field(default_factory=dict)
    """Members of the event's detail; `arn` is that of the envelope."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """Members of the description."""
    tags: Mapping[str, str] | None = None
    fault: Exception | None = None
    rules: FlowRules = field(default_factory=FlowRules)
    rejected_for: str = ""


HALF = without("MODEL_DB_MODEL_NAME")
DEFAULTS = TagDefaults(model_name=Template.parse("{job}"))
CASES = {
    "complete": Case("would be synced", Advice.REDRIVE),
    "complete now": Case(
        "its tags are complete now: redrive it",
        Advice.REDRIVE,
        {"Tags": HALF},
        rejected_for="tags_incomplete",
    ),
    "defaults": Case(
        "tags are complete now",
        Advice.REDRIVE,
        {"Tags": HALF},
        tags=HALF,
        rules=FlowRules(tag_defaults=DEFAULTS),
        rejected_for="tags_incomplete",
    ),
    "half": Case(
        "it still lacks MODEL_DB_MODEL_NAME",
        Advice.FIX,
        {"Tags": HALF},
        tags=HALF,
        rejected_for="tags_incomplete",
    ),
    "untagged": Case("no tag MODEL_DB_SYNC", Advice.DELETE, {"Tags": {}}, tags={}),
    "running": Case(
        "InProgress according to SageMaker",
        Advice.WAIT,
        job={"TrainingJobStatus": "InProgress"},
    ),
    "stopped": Case("the job is Stopped", Advice.DELETE, {"TrainingJobStatus": "Stopped"}),
    "in fact failed": Case("the job is Failed", Advice.DELETE, job={"TrainingJobStatus": "Failed"}),
    "gone": Case("the job is gone", Advice.DELETE, fault=GONE),
    "replaced": Case(
        "another job has the name", Advice.DELETE, job={"CreationTime": CREATED + timedelta(days=1)}
    ),
    "foreign": Case(
        "belongs to account 210987654321", Advice.LOOK, {"arn": arn_of("x", account="210987654321")}
    ),
    "other region": Case("in us-east-1", Advice.LOOK, {"arn": arn_of("x", region="us-east-1")}),
    "throttled": Case("cannot be told now", Advice.LOOK, fault=OUTAGE),
    "unreadable": Case("try again later", Advice.WAIT, fault=ODD),
}


async def said_of(case: Case, path: Path) -> tuple[Verdict, tuple[str, Reason]]:
    """The verdict, and then outcome and reason of the flow."""
    jobs = MemoryTrainingJobs()
    jobs.put("churn-1", tags=case.tags, **case.job)
    members = dict(case.event)
    body = event_body(arn=members.pop("arn", None) or arn_of("churn-1"), **members)
    if "arn" in case.event:
        body = event_body("x", arn=case.event["arn"])
    event = parse_event(body)
    assert isinstance(event, TrainingJobEvent)
    async with flow_scene(path, jobs=jobs, rules=case.rules) as scene:
        if case.fault is not None:
            jobs.faults["describe"] = deque([case.fault, case.fault])
        now = await job_now(event, jobs.home, jobs, scene.checkpoint)
        said = verdict(event, now, case.rules, rejected_for=case.rejected_for)
        attributes = {"reason": case.rejected_for} if case.rejected_for else None
        outcome = await scene.process(message(body, attributes=attributes))
        return said, (outcome.kind, outcome.reason)


@pytest.mark.parametrize("name", CASES)
async def test_the_verdict_is_what_the_flow_then_does(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    said, done = await said_of(case, tmp_path / "c.db")
    assert (said.outcome, said.reason) == done
    assert case.words in said.text
    assert said.advice is case.advice


async def test_a_synced_job_is_a_duplicate_that_names_its_run(tmp_path: Path) -> None:
    event = parse_event(event_body())
    assert isinstance(event, TrainingJobEvent)
    async with flow_scene(tmp_path / "c.db") as scene:
        await scene.process(message())
        jobs = scene.jobs
        for asked in (jobs, None):
            now = await job_now(event, jobs.home, asked, scene.checkpoint)
            said = verdict(event, now, FlowRules())
            assert (said.outcome, said.reason) == ("duplicate", Reason.ALREADY_SYNCED)
            assert said.text == "already synced (run id-of-churn-1): it can be deleted"
        jobs.faults["describe"] = deque([GONE])
        now = await job_now(event, jobs.home, jobs, scene.checkpoint)
        assert verdict(event, now, FlowRules()).outcome == "duplicate"


async def test_a_name_used_again_is_not_taken_for_the_synced_job(tmp_path: Path) -> None:
    async with flow_scene(tmp_path / "c.db") as scene:
        await scene.process(message())
        later = CREATED + timedelta(days=1)
        scene.jobs.put("churn-1", CreationTime=later)
        event = parse_event(event_body(CreationTime=round(later.timestamp() * 1000)))
        assert isinstance(event, TrainingJobEvent)
        now = await job_now(event, scene.jobs.home, scene.jobs, scene.checkpoint)
        assert verdict(event, now, FlowRules()).outcome == "synced"


def test_without_an_answer_nothing_is_claimed() -> None:
    event = parse_event(event_body())
    assert isinstance(event, TrainingJobEvent)
    said = verdict(event, JobNow(MemoryTrainingJobs().home), FlowRules())
    assert (said.outcome, said.reason, said.advice) == ("", None, Advice.LOOK)


def test_what_the_target_refused_is_for_a_person_to_fix() -> None:
    event = parse_event(event_body())
    assert isinstance(event, TrainingJobEvent)
    jobs = MemoryTrainingJobs()
    described = {
        "TrainingJobName": "churn-1",
        "TrainingJobArn": arn_of("churn-1", account=ACCOUNT),
        "TrainingJobStatus": "Completed",
        "CreationTime": CREATED,
    }
    now = JobNow(jobs.home, described, tags=without())
    said = verdict(event, now, FlowRules(), rejected_for="target_refused")
    assert (said.outcome, said.advice) == ("synced", Advice.FIX)
    assert "fix what the target refused" in said.text
