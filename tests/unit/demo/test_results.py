"""The demo's check of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daemon.demo.aws import DeadLetter
from daemon.demo.results import Evidence, Figures, shortcomings
from daemon.demo.sample_jobs import SECRETS, sample_story
from daemon.demo.target import FoundRun
from daemon.training_job.identity import JobMark

STORY = sample_story(datetime.now(UTC))


@pytest.fixture
def all_is_well() -> Evidence:
    """What there is when every job of `STORY` landed where it must."""
    runs = [
        FoundRun(
            "project",
            "experiment",
            job.name,
            job.arn,
            job.mark,
            metrics=[*job.finite_metrics.items()],
            inputs=[*job.inputs.items()],
            models=1,
            content="",
        )
        for job in STORY.jobs
        if job.demands == "synced"
    ]
    letters = [
        DeadLetter(
            json.dumps(
                {
                    "detail-type": "SageMaker Training Job State Change",
                    "source": "aws.sagemaker",
                    "detail": job.event_detail("Completed"),
                }
            ),
            "why",
            "detail",
        )
        for job in STORY.jobs
        if job.demands == "rejected"
    ]
    letters += [DeadLetter(body, "why", "detail") for body in STORY.bodies]
    return Evidence(runs, letters, [], Figures([]))


def test_the_check_is_content_when_every_job_landed_where_it_must(all_is_well: Evidence) -> None:
    assert len(all_is_well.runs) == 9
    assert shortcomings(STORY, all_is_well) == []


def test_the_check_finds_a_missing_a_double_and_a_foreign_run(all_is_well: Evidence) -> None:
    first, second, *others = all_is_well.runs
    assert "has 0 runs" in shortcomings(STORY, replace(all_is_well, runs=[second, *others]))[0]
    assert (
        "has 2 runs"
        in shortcomings(STORY, replace(all_is_well, runs=[first, first, second, *others]))[0]
    )
    stranger = replace(first, name="scratch-7", mark=JobMark("", ""))
    [found] = shortcomings(STORY, replace(all_is_well, runs=[*all_is_well.runs, stranger]))
    assert "scratch-7" in found


def test_the_check_finds_what_a_run_lacks_or_has_twice(all_is_well: Evidence) -> None:
    first, *others = all_is_well.runs

    def problems(run: FoundRun) -> list[str]:
        return list(shortcomings(STORY, replace(all_is_well, runs=[run, *others])))

    (name, value), *more = first.metrics
    kept_as_32_bit = replace(first, metrics=[(name, value * (1 + 5e-8)), *more])
    assert problems(kept_as_32_bit) == []
    for metrics in ([(name, value * 1.001), *more], more, [*first.metrics, (name, value)]):
        [found] = problems(replace(first, metrics=metrics))
        assert f"the run of {first.name} has the metrics " in found
    (channel, _), *channels = first.inputs
    for inputs in (
        [(channel, "s3://elsewhere"), *channels],
        channels,
        [*first.inputs, first.inputs[0]],
    ):
        [found] = problems(replace(first, inputs=inputs))
        assert f"the run of {first.name} has the inputs " in found
    assert problems(replace(first, models=0)) == [f"the run of {first.name} has 0 models, not 1"]


def test_the_check_finds_a_secret_in_modeldb(all_is_well: Evidence) -> None:
    first, *others = all_is_well.runs
    leaking = replace(first, content=f"api_key={SECRETS[0]}")
    [found] = shortcomings(STORY, replace(all_is_well, runs=[leaking, *others]))
    assert "secret" in found
    assert SECRETS[0] not in found


def test_the_check_finds_missing_and_unexplained_dead_letters(all_is_well: Evidence) -> None:
    first, *others = all_is_well.dead_letters
    assert "has 0 dead letters" in shortcomings(STORY, replace(all_is_well, dead_letters=others))[0]
    assert (
        "no dead letter with the body"
        in shortcomings(STORY, replace(all_is_well, dead_letters=[first, *others[:-1]]))[0]
    )
    assert (
        "has no reason"
        in shortcomings(
            STORY, replace(all_is_well, dead_letters=[replace(first, reason=""), *others])
        )[0]
    )
