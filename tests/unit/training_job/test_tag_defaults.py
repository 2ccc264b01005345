"""Defaults for tags: which templates are accepted, and what they become for a job."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.redaction.keys import SECRET_KEYS
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tag_defaults import TagDefaults, Template
from daemon.training_job.tags import (
    DESCRIBED_BY_TAGS,
    JobTags,
    TagKeys,
    TagsIncomplete,
    read_tags,
)

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
KEYS = TagKeys()
FULL = {
    "MODEL_DB_SYNC": "true",
    "MODEL_DB_PROJECT_NAME": "churn",
    "MODEL_DB_PROJECT_USER": "amara.okafor",
    "MODEL_DB_PROJECT_DESC": "Who leaves",
    "MODEL_DB_MODEL_NAME": "churn-xgb",
    "MODEL_DB_MODEL_TYPE": "XGBoost",
}
SYNC = {"MODEL_DB_SYNC": "true"}
NO_PROJECT = {key: value for key, value in FULL.items() if key != "MODEL_DB_PROJECT_NAME"}
PIPELINE = {
    "sagemaker:pipeline-execution-arn": f"{ARN}:pipeline/nightly-churn/execution/tq1l8brs9k2h",
    "sagemaker:pipeline-step-name": "Train",
}
REQUIRED = tuple(key for key in FULL if key not in SYNC)
DESCRIPTION = {
    "TrainingJobName": "Churn-1",
    "TrainingJobArn": f"{ARN}:training-job/Churn-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": datetime(2025, 11, 20, 8, 40, tzinfo=UTC),
    "TuningJobArn": f"{ARN}:hyper-parameter-tuning-job/Churn-Tuning",
    "ExperimentConfig": {"ExperimentName": "churn-experiment"},
}


def defaults(**templates: str) -> TagDefaults:
    return TagDefaults(**{name: Template.parse(text) for name, text in templates.items()})


def filled(
    tags: dict[str, str],
    given: TagDefaults,
    *,
    keys: TagKeys = KEYS,
    redact: tuple[str, ...] = SECRET_KEYS,
    **description: Any,
) -> JobTags | TagsIncomplete:
    incomplete = read_tags(tags, keys)
    assert isinstance(incomplete, TagsIncomplete)
    job = DescribedJob.of(DESCRIPTION | description)
    return given.fill(incomplete, tags, keys, job, redact)


def project(template: str, tags: dict[str, str] | None = None, **more: Any) -> str:
    """The project's name by a template."""
    found = filled(NO_PROJECT | (tags or {}), defaults(project_name=template), **more)
    assert isinstance(found, JobTags), found
    assert found.defaulted == ("project_name",)
    return found.project_name


def lacking(template: str, tags: dict[str, str] | None = None, **more: Any) -> str:
    """Why a template does not give the project's name."""
    found = filled(NO_PROJECT | (tags or {}), defaults(project_name=template), **more)
    assert isinstance(found, TagsIncomplete), found
    assert found.missing == ("MODEL_DB_PROJECT_NAME",)
    [detail] = found.details
    return detail.removeprefix("the default for project_name needs ")


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("churn", "churn"),
        ("{tag:team}", "growth"),
        ("{tag:team} models", "growth models"),
        ("{tag:team}/{tag:cost centre}", "growth/4711"),
        ("{tag:TEAM}", "other"),
        ("{ tag: team }", "growth"),
        ("{ job }", "Churn-1"),
        ("{job}", "Churn-1"),
        ("{tuning_job}", "Churn-Tuning"),
        ("{pipeline}", "nightly-churn"),
        ("{pipeline}: {pipeline_step}", "nightly-churn: Train"),
        ("{experiment}", "churn-experiment"),
        ("{account}-{region}", "123456789012-eu-west-1"),
        ("{tag:MODEL_DB_MODEL_NAME}", "churn-xgb"),
        ("{tag:sagemaker:pipeline-step-name}", "Train"),
        ("{{{job}}}", "{Churn-1}"),
        ("{{job}}", "{job}"),
        ("}}{{", "}{"),
        ("  {tag:team}  ", "growth"),
        ("{tag:team|tag:owner}", "growth"),
        ("{tag:nothing|tag:owner}", "li.wei"),
        ("{tag:nothing | tag:blank | tag:owner}", "li.wei"),
        ("{tag:nothing|job}", "Churn-1"),
        ('{tag:nothing|"no team"}', "no team"),
        ('{tag:team|"no team"}', "growth"),
        ('{"always"}', "always"),
        ("équipe {tag:team} 🎯", "équipe growth 🎯"),
    ],
)
def test_a_template_and_what_it_becomes(template: str, value: str) -> None:
    tags = {
        "team": " growth ",
        "TEAM": "other",
        "cost centre": "4711",
        "owner": "li.wei",
        "blank": " \t",
        **PIPELINE,
    }
    assert project(template, tags) == value


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "must not be blank"),
        (" \t ", "must not be blank"),
        ("a\nb", "must not contain line breaks"),
        ("a\0b", "must not contain line breaks or control characters"),
        ("{jobname}", "has the unknown placeholder {jobname}; allowed: {tag:KEY}, {job}, "),
        ("{}", "has the unknown placeholder {}"),
        ("{tag}", "has the unknown placeholder {tag}"),
        ("{tag:}", "has the unknown placeholder {tag:}"),
        ("{Tag:team}", "has the unknown placeholder {Tag:team}"),
        ("{mytag:team}", "has the unknown placeholder {mytag:team}"),
        ("{tag: }", "has the unknown placeholder {tag: }"),
        (f"{{tag:{'k' * 129}}}", "has the unknown placeholder"),
        ("{Job}", "has the unknown placeholder {Job}"),
        ("{job|owner}", "has the unknown placeholder {job|owner}"),
        ("{job|}", "has the unknown placeholder {job|}"),
        ('{job|""}', "has the unknown placeholder"),
        ('{job|"a}', "has the unknown placeholder"),
        ("{job", "has an unbalanced {; write {{ for a brace"),
        ("job}", "has an unbalanced }; write }} for a brace"),
        ("{job}}", "has an unbalanced }"),
        ("{{job}", "has an unbalanced }"),
        ("{a{job}}", "has an unbalanced {"),
    ],
)
def test_a_template_that_is_refused(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        Template.parse(template)


@pytest.mark.parametrize(
    ("template", "needs"),
    [
        ("{tag:team}", "tag team"),
        ("{tag:blank}", "tag blank"),
        ("{tag:Owner}", "tag Owner"),
        ("{tag:team} {tag:owner} {tag:centre}", "tag team, tag centre"),
        ("{tag:team|tag:centre}", "tag team or tag centre"),
        ("{tag:team|tuning_job|pipeline}", "tag team or tuning_job or pipeline"),
        ("{pipeline}", "pipeline"),
        ("{pipeline_step}", "pipeline_step"),
        ("{tuning_job}", "tuning_job"),
        ("{experiment}", "experiment"),
    ],
)
def test_a_placeholder_without_a_value_leaves_the_tag_missing(template: str, needs: str) -> None:
    tags = {"owner": "li.wei", "blank": " "}
    assert lacking(template, tags, TuningJobArn=None, ExperimentConfig=None) == needs


@pytest.mark.parametrize(
    "arn",
    [
        f"{ARN}:pipeline/nightly-churn",
        "nightly-churn",
        f"{ARN}:training-job/nightly-churn",
        "",
    ],
)
def test_only_the_arn_of_an_execution_names_the_pipeline(arn: str) -> None:
    assert lacking("{pipeline}", {"sagemaker:pipeline-execution-arn": arn}) == "pipeline"


@pytest.mark.parametrize("value", [None, "", " ", "\n"])
@pytest.mark.parametrize("name", DESCRIBED_BY_TAGS)
def test_tags_of_the_job_win(name: str, value: str | None) -> None:
    given = defaults(**dict.fromkeys(DESCRIBED_BY_TAGS, "{job}"))
    key = getattr(KEYS, name)
    tags = {other: text for other, text in FULL.items() if other != key}
    found = filled(tags if value is None else tags | {key: value}, given)
    whole = read_tags(FULL, KEYS)
    assert isinstance(whole, JobTags)
    assert found == replace(whole, **{name: "Churn-1"}, defaulted=(name,))


def test_a_job_with_the_sync_tag_alone() -> None:
    given = defaults(**{name: f"{name} of {{job}}" for name in DESCRIBED_BY_TAGS})
    values = [f"{name} of Churn-1" for name in DESCRIBED_BY_TAGS]
    assert filled(SYNC, given) == JobTags(*values, defaulted=DESCRIBED_BY_TAGS)


def test_without_defaults_all_stay_required() -> None:
    assert filled(SYNC, TagDefaults()) == TagsIncomplete(REQUIRED)
    assert filled(SYNC, defaults(model_type="t")) == TagsIncomplete(REQUIRED[:-1])


def test_what_is_missing_and_why() -> None:
    found = filled(
        SYNC, defaults(project_name="{tag:team}", model_name="{job}", model_type="{tag:kind}")
    )
    assert found == TagsIncomplete(
        (
            "MODEL_DB_PROJECT_NAME",
            "MODEL_DB_PROJECT_USER",
            "MODEL_DB_PROJECT_DESC",
            "MODEL_DB_MODEL_TYPE",
        ),
        (
            "the default for project_name needs tag team",
            "the default for model_type needs tag kind",
        ),
    )


def test_renamed_keys() -> None:
    keys = TagKeys(project_name="team")
    found = filled({**NO_PROJECT, "owner": "x"}, defaults(project_name="{tag:owner}"), keys=keys)
    assert isinstance(found, JobTags)
    assert found.project_name == "x"


def test_a_default_is_one_line_and_no_longer_than_a_tag() -> None:
    assert project("{tag:team}", {"team": "a\n\tb\x85c"}) == "a b c"
    long = project("{tag:team}{tag:team}", {"team": "x" * 200})
    assert (len(long), long[-1]) == (256, "…")


# Secrets
# ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("db-password", "growth"),
        ("api_key", "growth"),
        ("wandb-api-key", "growth"),
        ("team", "AKIAIOSFODNN7EXAMPLE"),
        ("team", "https://li:pa55word@example.org"),
    ],
)
def test_a_secret_is_no_project(key: str, value: str) -> None:
    needs = f"tag {key} (its value is redacted)"
    assert lacking(f"{{tag:{key}}}", {key: value}) == needs
    assert project(f'{{tag:{key}|"nobody"}}', {key: value}) == "nobody"


def test_with_redaction_switched_off_it_may_be_one() -> None:
    assert project("{tag:db-password}", {"db-password": "growth"}, redact=()) == "growth"


# The run
# ---


def test_the_run_says_which_values_are_defaults() -> None:
    tags = FULL | {"MODEL_DB_PROJECT_NAME": "", "MODEL_DB_MODEL_TYPE": " "}
    found = filled(tags, defaults(project_name="{job}", model_type="XGBoost"))
    assert isinstance(found, JobTags)
    run = training_run(DescribedJob.of(DESCRIPTION), found, tags, SECRET_KEYS)
    assert (run.project_name, run.model_type) == ("Churn-1", "XGBoost")
    assert "by jobs.tag_defaults, for lack of a tag: project name, model type" in run.notes
    whole = read_tags(FULL, KEYS)
    assert isinstance(whole, JobTags)
    assert training_run(DescribedJob.of(DESCRIPTION), whole, FULL, SECRET_KEYS).notes == ()
