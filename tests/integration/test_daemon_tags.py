"""Tags that come late or are missing, with the daemon as a real process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


def by_hand(job: Job, form: str) -> str:
    """A message that a person writes, or EventBridge's of the change."""
    forms: dict[str, dict[str, Any]] = {
        "arn": {"TrainingJobArn": job.arn},
        "name": {"TrainingJobName": job.name},
        "status": {"TrainingJobName": job.name, "TrainingJobStatus": "Completed"},
        "the change of tags": {
            "version": "0",
            "id": "bddcf1d6-0251-35a1-aab0-adc1fb47c11c",
            "detail-type": "Tag Change on Resource",
            "source": "aws.tag",
            "account": "123456789012",
            "time": "2025-11-21T08:40:00Z",
            "region": "eu-west-1",
            "resources": [job.arn],
            "detail": {
                "changed-tag-keys": ["MODEL_DB_SYNC"],
                "service": "sagemaker",
                "resource-type": "training-job",
                "version": 1,
                "tags": FULL_TAGS,
            },
        },
    }
    return job.event if form == "the event again" else json.dumps(forms[form])


@pytest.mark.parametrize(
    "form",
    [
        "the event again",
        *(
            pytest.param(form, marks=pytest.mark.slow)  # read alike, as tests of the parser show
            for form in ("arn", "name", "status", "the change of tags")
        ),
    ],
)
async def test_a_job_that_is_tagged_late_is_synced_by_a_message_of_ones_own(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int], form: str
) -> None:
    job = Job("late-1", tags={})
    scene.finish_jobs([job])
    await scene.send([job.event])
    daemon = scene.daemon(free_port())
    await daemon.start()
    [line] = await daemon.outcomes(1, outcome="skipped")
    assert line["reason"] == "not_tagged"
    assert modeldb.runs() == []

    scene.sagemaker.put_job(job.description, FULL_TAGS)
    await scene.send([by_hand(job, form), by_hand(job, form)])
    [line] = await daemon.outcomes(1, outcome="synced")
    await daemon.outcomes(1, outcome="duplicate")
    await scene.drained()
    assert line["reason"] == "created"
    assert [run["name"] for run in modeldb.runs()] == ["late-1"]
    assert await daemon.stop() == 0


async def test_a_job_with_the_switch_alone_gets_the_configured_defaults(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = [
        Job("bare-1", tags={"MODEL_DB_SYNC": "true", "team": "growth"}),
        Job("bare-2", tags={"MODEL_DB_SYNC": "true"}),
        Job("full-1"),
        Job("none-1", tags={"team": "growth"}),
    ]
    scene.finish_jobs(jobs)
    await scene.send([job.event for job in jobs])
    templates = {
        "project_name": "{tag:team} models",
        "project_user": "nobody",
        "project_description": "{account}",
        "model_name": "{job}",
    }
    daemon = scene.daemon(free_port(), jobs={"tag_defaults": templates})
    daemon.environment = {
        **daemon.environment,
        "MODELDB_SYNC_JOBS__TAG_DEFAULTS__MODEL_TYPE": '{tag:kind|"other"}',
    }
    await daemon.start()
    await daemon.outcomes(2, outcome="synced")
    await daemon.outcomes(1, outcome="skipped")
    [rejected] = await daemon.outcomes(1, outcome="rejected")
    await scene.drained()
    assert rejected["detail"] == (
        "missing or blank tags of bare-2: MODEL_DB_PROJECT_NAME; the default for project_name "
        "needs tag team"
    )
    assert sorted(project["name"] for project in modeldb.projects()) == ["churn", "growth models"]
    assert sorted(each["name"] for each in modeldb.experiments()) == ["bare-1", "churn-xgb"]
    runs = {run["name"]: run for run in modeldb.runs()}
    assert set(runs) == {"bare-1", "full-1"}
    notes = {
        name: [item["value"] for item in run["attributes"] if item["key"] == "sync_notes"]
        for name, run in runs.items()
    }
    assert notes["full-1"] == []
    assert "by jobs.tag_defaults, for lack of a tag: project name, " in str(notes["bare-1"])
    assert "other" in runs["bare-1"]["tags"]
    assert await daemon.stop() == 0


async def test_a_default_that_cannot_be_understood_ends_the_start(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    templates = {"project_name": "{tag:team", "model_name": "{jobb}"}
    daemon = scene.daemon(free_port(), jobs={"tag_defaults": templates})
    await daemon.start()
    assert await daemon.ended() == 2
    text = "\n".join(line["event"] for line in daemon.log)
    assert "jobs.tag_defaults.project_name = '{tag:team': has an unbalanced {" in text
    assert "jobs.tag_defaults.model_name = '{jobb}': has the unknown placeholder {jobb}" in text
