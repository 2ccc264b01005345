"""Descriptions for MLflow's pages, which show them as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.targets.description_facts import description_facts
from daemon.targets.mlflow.limits import DESCRIPTION, TAG_VALUE, cut
from daemon.text import one_line

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

_LINK = re.compile(r"https://[^\s<>]+")
_MARKUP = re.compile(r"[\\`*]|(?<=~)~|(?<=\])\(|(?<![^\W_])_|_(?![^\W_])")
"""What would change the look of text or make a link of it; not `_` within a word."""
_ENTITY = re.compile(r"&(?=#?\w+;)")


def run_description(run: TrainingRun) -> str:
    """The description of a job's run: one fact a line."""
    return cut(_facts(run), TAG_VALUE)


def version_description(run: TrainingRun) -> str:
    """The description of the model version that a job made."""
    location = run.model_location or ""
    what = "`model.tar.gz`" if location.endswith("/model.tar.gz") else "output"
    return cut(
        f"SageMaker's {what} of the training job {_escaped(run.name)}. It is not in MLflow's "
        "format: `mlflow.pyfunc.load_model` cannot load this version; download its source "
        f"instead.\n\n{_facts(run)}",
        DESCRIPTION,
    )


def model_description(run: TrainingRun) -> str:
    """The description of a registered model: of its first job, as later ones may differ."""
    return cut(
        f"Models of type {_escaped(run.model_type)}, project {_escaped(run.project_name)}. "
        "Each version is the model of a SageMaker training job.",
        DESCRIPTION,
    )


def _facts(run: TrainingRun) -> str:
    return "\n".join(
        f"- **{label}:** {_shown(value)}" for label, value in description_facts(run).items()
    )


def _shown(value: str) -> str:
    return f"<{value}>" if _LINK.fullmatch(value) else _escaped(value)


def _escaped(text: str) -> str:
    """Text on one line that looks in Markdown as it is."""
    line = _ENTITY.sub("&amp;", one_line(text)).replace("<", "&lt;")
    return _MARKUP.sub(lambda found: f"\\{found[0]}", line)
