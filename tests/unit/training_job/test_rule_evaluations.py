"""Debugger and profiler rules that found issues."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.targets.common_attributes import common_attributes
from tests.support.training_runs import run_of

MET = (
    "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 10 resulted in "
    "the condition being met\n"
)


def judged(name: object, status: object = "IssuesFound", details: object = None) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluationJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:processing-job/rule-1",
        "RuleEvaluationStatus": status,
        "StatusDetails": details,
    }


@pytest.mark.parametrize(
    ("statuses", "issues"),
    [
        pytest.param(
            [judged("LossNotDecreasing", details=MET)],
            f"LossNotDecreasing (IssuesFound): {MET.strip()}",
            id="one",
        ),
        pytest.param([judged("Overfit")], "Overfit (IssuesFound)", id="without details"),
        pytest.param(
            [judged("Overfit"), judged("DeadRelu", "NoIssuesFound"), judged("VanishingGradient")],
            "Overfit (IssuesFound)\nVanishingGradient (IssuesFound)",
            id="two of three",
        ),
        *(
            pytest.param([judged("Overfit", status, MET)], None, id=str(status))
            for status in ("InProgress", "NoIssuesFound", "Error", "Stopping", "Stopped", None, 5)
        ),
        pytest.param([judged(None)], "unnamed (IssuesFound)", id="without a name"),
        pytest.param([judged(" \n")], "unnamed (IssuesFound)", id="a blank name"),
        pytest.param([judged("Overfit"), judged("Overfit")], "Overfit (IssuesFound)", id="twice"),
        pytest.param(
            [judged("Overfit", details="line one\nline\ttwo\x00\ud800")],
            "Overfit (IssuesFound): line one line two\ufffd\ufffd",
            id="lines and no text",
        ),
        pytest.param(
            [judged("Overfit", details="x" * 1024)],
            f"Overfit (IssuesFound): {'x' * 276}…",
            id="long details",
        ),
        pytest.param([None, 5, "Overfit", {}], None, id="garbage"),
        pytest.param(None, None, id="absent"),
        pytest.param({"RuleEvaluationStatus": "IssuesFound"}, None, id="no list"),
    ],
)
@pytest.mark.parametrize("kind", ["debugger", "profiler"])
def test_rules_that_found_issues(kind: str, statuses: object, issues: str | None) -> None:
    member = {
        "debugger": "DebugRuleEvaluationStatuses",
        "profiler": "ProfilerRuleEvaluationStatuses",
    }
    given: dict[str, Any] = {member[kind]: statuses}
    attributes = common_attributes(run_of(**given))
    assert attributes[f"{kind}_issues"] == issues
    other = {"debugger": "profiler", "profiler": "debugger"}[kind]
    assert attributes[f"{other}_issues"] is None


def test_details_are_whole_on_the_run_where_secrets_are_searched_for() -> None:
    run = run_of(DebugRuleEvaluationStatuses=[judged("Overfit", details="x" * 1024)])
    assert run.debugger_issues == f"Overfit (IssuesFound): {'x' * 1024}"


def test_details_do_not_tell_the_jobs_secrets() -> None:
    secret = "correct-horse-battery"
    run = run_of(
        HyperParameters={"db_password": secret},
        DebugRuleEvaluationStatuses=[
            judged("Overfit", details=f"{'x' * 290} the rule ran with {secret} and failed")
        ],
    )
    assert secret not in repr(run)
    assert secret[:5] not in str(common_attributes(run)["debugger_issues"])
