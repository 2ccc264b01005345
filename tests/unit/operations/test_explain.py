"""The answer to "why is my model not there?": from what the flow has really done with a job."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.ports import Claim, EnqueuedJob
from daemon.errors import EdgeFault, JobFault, JobRefused, SetupFault
from daemon.operations.explain import Explanation, answer, as_document, job_event, unknown
from daemon.operations.job_now import job_now
from daemon.operations.job_story import read_stories
from daemon.operations.verdict import verdict
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Edge, Reason
from daemon.targets.ports import TargetRun
from tests.support.flow_scene import (
    TAGS,
    arn_of,
    event_body,
    flow_scene,
    mark_of,
    message,
    without,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.flow_scene import FlowScene

ARN = arn_of("churn-1")
RUN = TargetRun(created=False, ids={"run_id": "r-1"})
GONE = JobRefused(Reason.JOB_GONE, "SageMaker does not have it")
OUTAGE = EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, "SageMaker throttles requests")
DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(tmp_path / "checkpoint.db") as made:
        yield made


async def explained(
    scene: FlowScene, job: str = "churn-1", *, run: TargetRun | None = None, asked: bool = False
) -> Explanation:
    event = job_event(job)
    now = await job_now(event, scene.jobs.home, scene.jobs)
    arn = now.arn_of(event)
    stories = await read_stories(scene.checkpoint, job, arns=[] if arn is None else [arn.key])
    story = next((each for each in stories if each.known), None)
    rows = () if story is None else [row for row in story.rows if row.creation_time]
    now = replace(now, rows=rows)
    return Explanation(
        event,
        FlowRules(),
        story,
        now=now,
        verdict=verdict(event, now, FlowRules()),
        run=run,
        target_asked=asked or run is not None,
        sagemaker_problem=now.fault.detail if isinstance(now.fault, EdgeFault) else "",
    )


async def said(scene: FlowScene, **asked: Any) -> str:
    found = answer(await explained(scene, **asked))
    return f"{found.why} -> {found.next_step}"


UNTAGGED = message(event_body(Tags=None))


@pytest.mark.parametrize(
    ("tags", "members", "words"),
    [
        (
            TAGS,
            {},
            "nothing stands in its way, but no message about it has been handled -> `sync churn-1`",
        ),
        (
            {"team": "a"},
            {},
            (
                "it has no tag MODEL_DB_SYNC, so it is ignored -> add the tag MODEL_DB_SYNC (any "
                "value) and the other tags, then `sync churn-1`"
            ),
        ),
        (
            without("MODEL_DB_MODEL_NAME"),
            {},
            (
                "it has the tag MODEL_DB_SYNC, but lacks MODEL_DB_MODEL_NAME -> add the tag "
                "MODEL_DB_MODEL_NAME, then `sync churn-1`"
            ),
        ),
        (
            TAGS,
            {"TrainingJobStatus": "Stopped"},
            "it is Stopped, and jobs.statuses has Completed only -> add Stopped to jobs.statuses",
        ),
        (
            TAGS,
            {"TrainingJobStatus": "InProgress"},
            "it is InProgress: it has not ended -> wait: its event follows when it ends",
        ),
    ],
)
async def test_a_job_that_no_message_was_about(
    scene: FlowScene, tags: dict[str, str], members: dict[str, Any], words: str
) -> None:
    scene.jobs.put("churn-1", tags=tags, **members)
    assert (await said(scene)).startswith(words)


async def test_a_job_that_was_tagged_since(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    await scene.handle(UNTAGGED)
    assert (await said(scene)).startswith("it has no tag MODEL_DB_SYNC")
    scene.jobs.put("churn-1")
    assert await said(scene) == (
        "it had no sync tag when its message came; its tags are complete now -> `sync churn-1`"
    )


async def test_a_job_that_was_rejected_and_corrected_since(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={"MODEL_DB_SYNC": ""})
    await scene.handle(UNTAGGED)
    scene.jobs.put("churn-1")
    words = await said(scene)
    assert words.startswith("its message was rejected (tags_incomplete): missing or blank tags")
    assert words.endswith("`dead-letters redrive --job churn-1`")


@pytest.mark.parametrize("job", ["churn-1", ARN])
async def test_a_synced_job(scene: FlowScene, job: str) -> None:
    await scene.handle()
    assert await said(scene, job=job) == "it is synced -> nothing to do"
    assert await said(scene, run=RUN) == "it is synced -> nothing to do"
    assert "somebody has deleted it -> `sync churn-1 --force`" in await said(scene, asked=True)
    scene.jobs.faults["describe"] = deque([GONE, OUTAGE])
    assert "has since been deleted in SageMaker -> nothing" in await said(scene)
    assert await said(scene) == "it is synced -> nothing to do"


async def test_a_run_that_is_not_recorded(scene: FlowScene) -> None:
    assert await said(scene, run=RUN) == (
        "its run is there, but the checkpoint has not recorded it -> `sync churn-1` records it"
    )


async def test_a_job_in_the_queue_put_off_and_at_work(scene: FlowScene) -> None:
    mark = mark_of("churn-1")
    await scene.checkpoint.record_enqueued(
        [EnqueuedJob(mark.arn, mark.creation_time, "churn-1", "reconcile", None, "m-9")]
    )
    assert (await said(scene)).startswith(
        "a message about it was sent to the queue by reconcile, and not handled yet -> wait"
    )
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "503"))
    await scene.handle()
    assert (await said(scene)).startswith(
        "it was put off (target_fault): 503 -> its message will be received again"
    )
    claim = await scene.checkpoint.claim(ARN, 60)
    assert isinstance(claim, Claim)
    assert (await said(scene)).startswith(f"process {claim.owner} works on it now -> wait a minute")


async def test_a_write_without_an_end(scene: FlowScene) -> None:
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "503"), begun=1)
    await scene.handle()
    assert (await said(scene)).startswith("its write has begun, and how it ended is not known")


async def test_without_sagemaker_the_record_answers(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", tags={})
    await scene.handle(UNTAGGED)
    scene.jobs.faults["describe"] = deque([OUTAGE])
    found = await explained(scene)
    assert answer(found).why == "it is recorded as skipped (not_tagged)"
    assert found.known
    assert as_document(found)["problems"]["sagemaker"] == OUTAGE.detail


async def test_of_what_nobody_knows_one_sentence_says_so(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = deque([GONE, OUTAGE])
    gone = await explained(scene, "typo-1")
    assert not gone.known
    assert unknown(gone) == (
        "SageMaker has no training job typo-1 in eu-west-1 (account 123456789012): check the name, "
        "and whether the configuration is for its account and region"
    )
    down = replace(await explained(scene, "typo-1"), checkpoint_problem="the disk is gone")
    assert unknown(down) == (
        "nothing is known of typo-1: SageMaker throttles requests; the disk is gone"
    )
    foreign = await explained(scene, arn_of("churn-1", account="210987654321"))
    assert not foreign.known
    assert unknown(foreign) == (
        "the job belongs to account 210987654321 in eu-west-1, and this configuration is for "
        "123456789012 in eu-west-1: ask with the configuration of the daemon there"
    )


@pytest.mark.parametrize("job", ["", "two words", "arn:aws:s3:::bucket", "x" * 64])
def test_what_is_no_job_is_refused(job: str) -> None:
    with pytest.raises(SetupFault, match="JOB: "):
        job_event(job)


async def test_the_document_holds_everything_but_secrets(scene: FlowScene) -> None:
    secret = "hunter2hunter2"
    scene.jobs.put(
        "churn-1",
        tags=TAGS | {"api_key": secret, "MODEL_DB_MODEL_TYPE": f"token={secret}"},
        HyperParameters={"password": secret},
        FailureReason=f"password={secret}",
    )
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, f"password={secret}"))
    await scene.handle(UNTAGGED)
    await scene.handle(message(event_body(Tags=None), message_id="m-2"))
    document = as_document(await explained(scene, run=RUN))
    assert secret not in json.dumps(document)
    assert (document["job"], document["arn"], document["in_modeldb"]) == ("churn-1", ARN, True)
    assert document["verdict"] == {"outcome": "duplicate", "reason": "already_synced"}
    assert document["sagemaker"]["sync_tag"] is True
    assert [entry["what"] for entry in document["story"]][-3:] == [
        "tags_read",
        "write_begun",
        "outcome",
    ]
    (record,) = document["records"]
    assert (record["state"], record["project"]) == ("synced", "churn")


async def test_every_member_of_the_document_is_documented(scene: FlowScene) -> None:
    await scene.handle()
    document = as_document(await explained(scene))
    section = DOCS.read_text().split("\n## explain\n")[1].split("\n## ")[0]
    members = {*document, *document["sagemaker"], *document["records"][0], *document["story"][0]}
    assert [member for member in sorted(members) if f"`{member}`" not in section] == []
