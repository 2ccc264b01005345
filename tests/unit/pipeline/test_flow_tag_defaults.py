"""Jobs that have the sync tag, but not all the others, where defaults are configured."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import JobRefused
from daemon.outcome import Rejected, Skipped
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from daemon.training_job.tag_defaults import TagDefaults, Template
from tests.support.flow_scene import (
    TAGS,
    MemoryTrainingJobs,
    event_body,
    flow_scene,
    message,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

SYNC = {"MODEL_DB_SYNC": "true"}
NOTE = "by jobs.tag_defaults, for lack of a tag: "


def scene_with(
    path: Path,
    listed: Mapping[str, str],
    members: Mapping[str, Any] | None = None,
    **templates: str,
) -> AbstractAsyncContextManager[FlowScene]:
    """A daemon with defaults, and the job ``churn-1`` with these tags."""
    jobs = MemoryTrainingJobs()
    jobs.put("churn-1", tags=listed, **members or {})
    defaults = TagDefaults(**{name: Template.parse(text) for name, text in templates.items()})
    return flow_scene(path, jobs=jobs, rules=FlowRules(tag_defaults=defaults))


@pytest.mark.parametrize(
    "given",
    [None, {}, SYNC, without("MODEL_DB_PROJECT_NAME"), {"team": "growth"}],
    ids=["none", "empty", "sync", "half", "other"],
)
async def test_defaults_fill_what_list_tags_lacks(
    path: Path, given: Mapping[str, str] | None
) -> None:
    listed = without("MODEL_DB_PROJECT_NAME") | {"team": "growth"}
    async with scene_with(path, listed, project_name="{tag:team} models") as scene:
        assert (await scene.process(message(event_body(Tags=given)))).kind == "synced"
        [run] = scene.target.runs
        assert (run.project_name, run.model_name) == ("growth models", "churn-xgb")
        assert run.all_tags == listed
        assert run.notes == (f"{NOTE}project name",)


async def test_the_sync_tag_alone_is_enough_with_all_defaults(path: Path) -> None:
    async with scene_with(
        path,
        SYNC,
        {"TuningJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/hpo"},
        project_name="{tuning_job}",
        project_user="nobody",
        project_description="Jobs of {account} in {region}",
        model_name="{job}",
        model_type='{tag:kind|"unknown"}',
    ) as scene:
        await scene.process(message(event_body(Tags=SYNC)))
        [run] = scene.target.runs
        assert (run.project_name, run.project_user) == ("hpo", "nobody")
        assert run.project_description == "Jobs of 123456789012 in eu-west-1"
        assert (run.model_name, run.model_type) == ("churn-1", "unknown")
        assert run.notes == (
            f"{NOTE}project name, project user, project description, model name, model type",
        )


async def test_a_tag_that_only_list_tags_has_wins(path: Path) -> None:
    # tagged after its event: a default here would put the job into another project
    async with scene_with(path, TAGS, project_name="{job}") as scene:
        await scene.process(message(event_body(Tags=without("MODEL_DB_PROJECT_NAME"))))
        [run] = scene.target.runs
        assert (run.project_name, run.notes) == ("churn", ())
        assert [call for call, _ in scene.jobs.asked] == ["describe", "tags"]


async def test_complete_tags_of_the_event_need_neither(path: Path) -> None:
    async with scene_with(path, SYNC, project_name="{job}") as scene:
        await scene.process()
        [run] = scene.target.runs
        assert (run.project_name, run.notes) == ("churn", ())
        assert [call for call, _ in scene.jobs.asked] == ["describe"]


@pytest.mark.parametrize("value", ["", " ", "\t"])
async def test_a_blank_tag_is_a_missing_one(path: Path, value: str) -> None:
    tags = TAGS | {"MODEL_DB_MODEL_TYPE": value}
    async with scene_with(path, tags, model_type="XGBoost 1.7") as scene:
        await scene.process(message(event_body(Tags=tags)))
        assert [run.model_type for run in scene.target.runs] == ["XGBoost 1.7"]


@pytest.mark.parametrize("tags", [{}, {"team": "growth"}, without("MODEL_DB_SYNC")])
async def test_without_the_sync_tag_there_are_no_defaults(
    path: Path, tags: Mapping[str, str]
) -> None:
    async with scene_with(path, tags, project_name="{job}", model_name="{job}") as scene:
        outcome = await scene.process(message(event_body(Tags=tags)))
        assert outcome == Skipped(Reason.NOT_TAGGED, "churn-1 has no tag MODEL_DB_SYNC")


async def test_a_default_that_lacks_something_is_a_missing_tag_and_says_so(path: Path) -> None:
    async with scene_with(
        path, SYNC | {"owner": "li"}, model_name="{tag:team}-{tag:owner}"
    ) as scene:
        outcome = await scene.process(message(event_body(Tags=None)))
        assert outcome == Rejected(
            Reason.TAGS_INCOMPLETE,
            "missing or blank tags of churn-1: MODEL_DB_PROJECT_NAME, MODEL_DB_PROJECT_USER, "
            "MODEL_DB_PROJECT_DESC, MODEL_DB_MODEL_NAME, MODEL_DB_MODEL_TYPE; the default for "
            "model_name needs tag team",
        )
        assert not scene.target.runs


async def test_without_defaults_the_six_stay_required(path: Path) -> None:
    tags = without("MODEL_DB_MODEL_NAME")
    async with scene_with(path, tags) as scene:
        assert await scene.process(message(event_body(Tags=tags))) == Rejected(
            Reason.TAGS_INCOMPLETE, "missing or blank tags of churn-1: MODEL_DB_MODEL_NAME"
        )


async def test_a_redriven_message_gets_defaults_from_list_tags_alone(path: Path) -> None:
    listed = without("MODEL_DB_PROJECT_NAME") | {"team": "new"}
    async with scene_with(path, listed, project_name="{tag:team}") as scene:
        tags = listed | {"team": "old"}
        redriven = message(event_body(Tags=tags), attributes={"reason": "tags_incomplete"})
        await scene.process(redriven)
        assert [run.project_name for run in scene.target.runs] == ["new"]


async def test_defaults_do_not_stand_in_for_tags_that_nobody_has_any_more(path: Path) -> None:
    # the job may have had the tag: its event need not have known
    tags = without("MODEL_DB_PROJECT_NAME")
    async with scene_with(path, tags, {"TrainingJobStatus": "Deleting"}, project_name="x") as scene:
        scene.jobs.faults["tags"] = deque([JobRefused(Reason.JOB_GONE, "no such job")])
        outcome = await scene.process(message(event_body(Tags=tags)))
        assert outcome == Rejected(Reason.JOB_GONE, "no such job")


async def test_a_secret_tag_gives_no_default(path: Path) -> None:
    tags = without("MODEL_DB_PROJECT_NAME") | {"db-password": "s3cr3t-Value"}
    rules = FlowRules(
        tag_defaults=TagDefaults(project_name=Template.parse("{tag:db-password}")),
        redact=("*password*",),
    )
    jobs = MemoryTrainingJobs()
    jobs.put("churn-1", tags=tags)
    async with flow_scene(path, jobs=jobs, rules=rules) as scene:
        outcome = await scene.process(message(event_body(Tags=tags)))
        assert isinstance(outcome, Rejected)
        assert outcome.detail.endswith(
            "the default for project_name needs tag db-password (its value is redacted)"
        )
        assert "s3cr3t" not in outcome.detail
