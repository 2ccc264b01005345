"""The description of a run: what people look for first, because the pages show attributes in
pop-ups only.

One fact a line. The run page puts all lines into one paragraph, so each ends with a separator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.description_facts import description_facts

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

SEPARATOR = " · \n"


def description(run: TrainingRun) -> str:
    """The description of a job's run."""
    return SEPARATOR.join(f"{label}: {value}" for label, value in description_facts(run).items())
