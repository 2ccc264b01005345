"""Redaction in a run."""

from __future__ import annotations

from tests.support.training_runs import run_of


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
