"""Every recorded event body through the whole flow on real sockets: the SageMaker stub, a
checkpoint file and the ModelDB stand-in.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from daemon.observability.logs import configure_logging
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from daemon.training_job.event import TrainingJobEvent, parse_event
from tests.support.aws_vectors import EventVector, describe_bytes, events, tags_bytes
from tests.support.daemon_process import mark_of
from tests.support.flow_on_sockets import FlowOnSockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.outcome import Outcome

VECTORS = events()
WORDS = {"synced": "sync", "duplicate": "sync", "skipped": "skip", "rejected": "reject"}
GROUPS = {vector.group: vector.runs for vector in VECTORS if vector.group}


# SageMaker's model is read once for all, not once a test
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Runner(FlowOnSockets):
    """Delivers recorded bodies, with the jobs that they name in SageMaker."""

    async def __call__(self, vector: EventVector, rules: FlowRules | None = None) -> Outcome:
        self.put_job(vector)
        return await self.deliver(vector.body, vector.home, rules)

    def put_job(self, vector: EventVector) -> None:
        """The recorded XGBoost description with the event's name, ARN and creation time (see the
        README of the vectors).
        """
        event = parse_event(vector.body)
        if not isinstance(event, TrainingJobEvent):
            return
        description: dict[str, Any] = json.loads(describe_bytes("xgboost-builtin.json"))
        arn = (
            event.arn.text
            if event.arn
            else f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{event.name}"
        )
        description |= {"TrainingJobName": event.name, "TrainingJobArn": arn}
        description["TrainingJobStatus"] = vector.describe_status or event.status or "Completed"
        if event.creation_time is not None:
            description["CreationTime"] = event.creation_time.timestamp()
        self.stub.put_job(description, event.tags or {})
        if vector.list_tags is not None:
            self.stub.put_tag_pages(arn, {None: tags_bytes(vector.list_tags)})
        elif not event.tags:
            self.stub.put_tag_pages(arn, {None: tags_bytes("full.json")})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner() -> AsyncIterator[Runner]:
    async with Runner() as flow:
        yield flow


@pytest.fixture
def run(runner: Runner, tmp_path: Path) -> Runner:
    runner.begin(tmp_path)
    return runner


def word(outcome: Outcome, vector: EventVector) -> str:
    """The outcome in the index's words."""
    if outcome.kind == "rejected" and outcome.reason is Reason.MALFORMED_BODY:
        return "poison"
    return WORDS.get(outcome.kind, outcome.kind)


async def wrong_with(vector: EventVector, run: Runner) -> str:
    """Syncs one body; returns what differs from the index, empty if nothing does."""
    outcome = await run(vector)
    runs = run.server.runs()
    if word(outcome, vector) not in vector.accept or any(
        key not in getattr(outcome, "detail", "") for key in vector.missing
    ):
        return f"{vector.file}: {outcome}"
    if len(runs) != (outcome.kind == "synced"):
        return f"{vector.file}: {len(runs)} runs after {outcome}"
    if runs:
        event = parse_event(vector.body)
        assert isinstance(event, TrainingJobEvent)
        name, arn = runs[0]["name"], mark_of(runs[0])[0]
        if name != event.name or not arn.endswith(f"training-job/{event.name}".lower()):
            return f"{vector.file}: the run of {name}, {arn}"
    # the index gives one preferred outcome, and others that can be defended
    if word(outcome, vector) != vector.expect:
        return f"{vector.file}: {word(outcome, vector)} is not preferred"
    return ""


async def test_outcomes(runner: Runner, tmp_path: Path) -> None:
    found = []
    for number, vector in enumerate(VECTORS):
        home = tmp_path / str(number)
        home.mkdir()
        runner.begin(home)
        found.append(await wrong_with(vector, runner))
    # all have what a sync needs once Describe and ListTags are asked, so the job is not lost
    assert sorted(filter(None, found)) == [
        "bad-detail-string.json: sync is not preferred",
        "bad-lone-surrogate.json: sync is not preferred",
        "form-double-encoded.json: sync is not preferred",
        "status-missing.json: sync is not preferred",
    ]


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v.expect_with_statuses or v.expect_with_tag_keys],
    ids=lambda v: v.file,
)
async def test_outcome_with_other_settings(vector: EventVector, run: Runner) -> None:
    if vector.expect_with_statuses:
        rules, expected = (
            FlowRules(statuses=frozenset(vector.with_statuses)),
            str(vector.expect_with_statuses),
        )
    else:
        assert vector.with_tag_keys is not None
        rules, expected = FlowRules(tag_keys=vector.with_tag_keys), str(vector.expect_with_tag_keys)
    assert word(await run(vector, rules), vector) == expected


@pytest.mark.parametrize("group", GROUPS)
async def test_a_group_leaves_its_runs_in_any_order(group: str, run: Runner) -> None:
    members = [vector for vector in VECTORS if vector.group == group]
    # a replay of an event that is in the corpus under its own name
    if group.startswith("churn-xgb"):
        members.append(next(vector for vector in VECTORS if vector.file == "tags-map.json"))
    for number, order in enumerate(itertools.permutations(members)):
        before = len(run.server.runs())
        run.path = run.path.with_name(f"{number}.db")
        for vector in order:
            await run(fresh(vector, number))
        assert len(run.server.runs()) - before == GROUPS[group], [vector.file for vector in order]


def fresh(vector: EventVector, number: int) -> EventVector:
    """The same event of a job with another name, so that one server serves several rounds."""
    event = parse_event(vector.body)
    assert isinstance(event, TrainingJobEvent)
    return replace(vector, body=vector.body.replace(event.name, f"{event.name}-{number}"))


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.never_log], ids=lambda vector: vector.file
)
async def test_secrets_of_an_event_go_nowhere(vector: EventVector, run: Runner) -> None:
    log = io.StringIO()
    configure_logging("debug", "json", log)
    outcome = await run(vector)
    everything = [
        log.getvalue(),
        repr(outcome),
        run.path.read_bytes().decode("latin-1"),
        json.dumps(run.server.runs()),
    ]
    for secret in vector.never_log:
        assert not any(secret in text for text in everything)


async def test_the_corpus_is_whole() -> None:
    assert len(VECTORS) == 109
    assert {vector.expect for vector in VECTORS} == {"sync", "skip", "reject", "poison"}
