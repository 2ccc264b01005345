"""Redaction in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from daemon.redaction.keys import SECRET_KEYS
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags
from tests.support.training_runs import MINIMAL, run_of

FIELD = Path(__file__).parents[2] / "data" / "field" / "33-secrets-in-other-spellings.json"


def test_secret_values_are_left_behind_everywhere() -> None:
    run = run_of(
        HyperParameters={
            "API_KEY": "sk-live-1",
            "hf-token": '"hf_1234"',
            "max_tokens": "512",
            "tokenizer": "bert",
            "pin_password": "1",
        },
        Environment={"WANDB_API_KEY": "wandb-1", "MODE": "fast-mode"},
        FailureReason='Command "train.py --API_KEY sk-live-1 --hf-token hf_1234 --max_tokens 512 '
        '--pin_password 1", wandb-1, fast-mode',
        all_tags={"team-token": "tt-1234", "team": "a"},
    )
    assert {
        parameter.key: (parameter.text, parameter.value) for parameter in run.hyperparameters
    } == {
        "API_KEY": ("[redacted]", "[redacted]"),
        "hf-token": ("[redacted]", "[redacted]"),
        "pin_password": ("[redacted]", "[redacted]"),
        "max_tokens": ("512", 512),
        "tokenizer": ("bert", "bert"),
    }
    assert run.failure_reason == (
        'Command "train.py --API_KEY [redacted] --hf-token [redacted] --max_tokens 512 '
        '--pin_password 1", [redacted], fast-mode'
    )
    assert run.all_tags == {"team-token": "[redacted]", "team": "a"}


def test_a_redacted_location_is_not_taken_for_one() -> None:
    run = run_of(
        HyperParameters={"sagemaker_submit_directory": "s3://b/x"}, redact=("SAGEMAKER_*",)
    )
    assert run.source_code_uri is None


def test_the_field_vector_of_secrets_in_other_spellings() -> None:
    vector = json.loads(FIELD.read_text())
    parameters = vector["describe"][0]["HyperParameters"]
    run = run_of(HyperParameters=parameters)
    assert "LEAK" not in repr(run)
    assert "HIDDEN" not in repr(run)
    shown = {parameter.key: parameter.text for parameter in run.hyperparameters}
    assert list(shown) == list(parameters)
    assert shown["tokens_per_batch"] == "4096"
    assert shown["tokenizer"] == "bert"
    assert shown["git_repo"] == "https://[redacted: a login]@github.com/example/code.git"
    assert json.loads(shown["trainer_config"]) == {
        "report_to": "wandb",
        "wandb": {"api_key": "[redacted]"},
    }
    assert "hyperparameter 'wandb-api-key' redacted" in run.notes
    assert "hyperparameter 'git_repo': a login redacted" in run.notes
    assert "hyperparameter 'trainer_config': 1 secret redacted" in run.notes
    assert len(run.notes) == 16


SECRET = "LEAK-tr0ub4dor&3"
LOGIN = f"https://me:{SECRET}@example.org/x"


@pytest.mark.parametrize(
    ("members", "tags"),
    [
        ({"HyperParameters": {"repo": LOGIN}}, {}),
        ({"HyperParameters": {"args": f"--api-key {SECRET}"}}, {}),
        ({"HyperParameters": {LOGIN: "x"}}, {}),
        ({"HyperParameters": {"api_key": SECRET, "command": f"train {SECRET}"}}, {}),
        ({"HyperParameters": {"sagemaker_submit_directory": LOGIN}}, {}),
        ({"HyperParameters": {"sagemaker_program": f"train.py --password={SECRET}"}}, {}),
        ({"FailureReason": f"could not clone {LOGIN}"}, {}),
        ({"Environment": {"PGPASSWORD": SECRET}, "FailureReason": f"x {SECRET} y"}, {}),
        ({"Environment": {"DATABASE_URL": LOGIN}, "FailureReason": f"x {SECRET} y"}, {}),
        ({"Environment": {"CONFIG": f'{{"api_key": "{SECRET}"}}'}, "FailureReason": SECRET}, {}),
        ({"FailureReason": f"x {SECRET} y"}, {"db-password": SECRET}),
        ({"FailureReason": f"x {json.dumps([SECRET])} {quote(SECRET)}"}, {"pwd": SECRET}),
        ({}, {"source": LOGIN}),
        ({}, {"ci-token": SECRET}),
        ({}, {LOGIN: "x"}),
        (
            {
                "InputDataConfig": [
                    {"ChannelName": "a", "DataSource": {"S3DataSource": {"S3Uri": LOGIN}}}
                ]
            },
            {},
        ),
        ({"OutputDataConfig": {"S3OutputPath": LOGIN}}, {}),
        ({"ModelArtifacts": {"S3ModelArtifacts": f"{LOGIN}?X-Amz-Signature=LEAK"}}, {}),
        ({"CheckpointConfig": {"S3Uri": LOGIN}}, {}),
        ({"TensorBoardOutputConfig": {"S3OutputPath": LOGIN}}, {}),
        ({"DebugHookConfig": {"S3OutputPath": LOGIN}}, {}),
        ({"AlgorithmSpecification": {"TrainingImage": LOGIN}}, {}),
        ({"ExperimentConfig": {"ExperimentName": LOGIN}}, {}),
    ],
)
def test_a_secret_anywhere_in_a_job(members: dict[str, Any], tags: dict[str, str]) -> None:
    run = run_of(all_tags=tags, **members)
    assert "LEAK" not in repr(run)
    assert "redacted" in repr(run)


def test_a_secret_in_the_tags_of_project_and_model() -> None:
    tags = JobTags("churn", "amara", f"Clone {LOGIN}, then train", "churn-xgb", "XGBoost")
    run = training_run(DescribedJob.of(MINIMAL), tags, {}, SECRET_KEYS)
    assert run.project_description == "Clone https://[redacted: a login]@example.org/x, then train"
    assert run.notes == ("project description: a login redacted",)


def test_project_and_model_do_not_change_with_a_jobs_own_secrets() -> None:
    run = run_of(HyperParameters={"api_key": "churn", "password": "amara.okafor"})
    assert (run.project_name, run.project_user) == ("churn", "amara.okafor")


def test_what_explains_a_fine_tune_stays() -> None:
    parameters = {
        "pad_token": '"<pad>"',
        "eos_token": "</s>",
        "add_bos_token": "true",
        "loss_per_token": "0.3",
        "max_tokens": "512",
        "tokenizer": "bert",
        "authors": "Ann",
        "use_auth_token": "false",
        "hub_token": "null",
    }
    run = run_of(HyperParameters=parameters)
    assert {parameter.key: parameter.text for parameter in run.hyperparameters} == parameters
    assert run.notes == ()


@pytest.mark.parametrize("left", [4, 6, 9])
def test_a_secret_that_sagemaker_cut_off(left: int) -> None:
    reason = f"{'ExecuteUserScriptError: ' * 50}"[: 1024 - left] + SECRET[:left]
    run = run_of(Environment={"WANDB_API_KEY": SECRET}, FailureReason=reason)
    assert run.failure_reason is not None
    assert run.failure_reason.endswith("[redacted]")
    assert run.failure_reason[: 1024 - left] == reason[: 1024 - left]
    assert run.notes == ("failure reason: 1 secret redacted",)


def test_nothing_is_redacted_without_patterns() -> None:
    run = run_of(HyperParameters={"password": SECRET, "repo": LOGIN}, redact=())
    assert [parameter.text for parameter in run.hyperparameters] == [SECRET, LOGIN]
    assert run.notes == ()


def test_a_json_document_stays_one_and_is_typed() -> None:
    run = run_of(HyperParameters={"config": json.dumps({"lr": 0.1, "api_key": SECRET})})
    assert run.hyperparameters[0].value == {"lr": 0.1, "api_key": "[redacted]"}
