"""Rules of SageMaker Debugger and Profiler that found issues: a judgement on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.text import one_line
from daemon.training_job.field_readers import sections, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_ISSUES_FOUND = "IssuesFound"


def read_issues(description: Mapping[str, Any], member: str) -> str | None:
    """One line for each rule that found issues: its name, its status and its details.

    Args:
        description: the job's description.
        member: DebugRuleEvaluationStatuses or ProfilerRuleEvaluationStatuses.
    """
    lines = [
        _line(item)
        for item in sections(description, member)
        if text(item, "RuleEvaluationStatus") == _ISSUES_FOUND
    ]
    return "\n".join(dict.fromkeys(lines)) or None


def _line(evaluation: Mapping[str, Any]) -> str:
    name = one_line(text(evaluation, "RuleConfigurationName") or "") or "unnamed"
    details = one_line(text(evaluation, "StatusDetails") or "")
    line = f"{name} ({_ISSUES_FOUND})"
    return f"{line}: {details}" if details else line
