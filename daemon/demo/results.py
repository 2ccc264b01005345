"""The demo's result, read from the target, the dead-letter queue, `/metrics` and the daemon's log.

`shortcomings` is the demo's check of itself: it compares the result with what the jobs demand.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from daemon.demo.sample_jobs import SECRETS
from daemon.outcome import Held, Rejected, Skipped, Synced
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.identity import JobMark, iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from daemon.demo.aws import DeadLetter
    from daemon.demo.sample_jobs import SampleJob, Story
    from daemon.demo.target import FoundRun

NO_EVENT = "(no event)"
"""Stands where a job's name would."""
METRIC_TOLERANCE = 1e-6
"""ModelDB V1 keeps metrics as 32-bit floats."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One scrape of `/metrics`."""

    samples: Sequence[tuple[str, Mapping[str, str], float]]

    def total(self, name: str, **labels: str) -> int:
        """The sum of a metric's samples that have these labels.

        Args:
            name: without the prefix ``modeldb_sync_``.
        """
        wanted = f"modeldb_sync_{name}"
        return round(
            sum(
                value
                for each, has, value in self.samples
                if each == wanted and labels.items() <= has.items()
            )
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """The result of the demo."""

    runs: Sequence[FoundRun]
    dead_letters: Sequence[DeadLetter]
    outcomes: Sequence[Mapping[str, Any]]
    """The daemon's log lines "job outcome"."""
    figures: Figures
    system: str = "ModelDB"
    """What the target is called."""

    @property
    def held(self) -> set[str]:
        """The ids of the messages that were held."""
        return {line["message_id"] for line in self.outcomes if line["outcome"] == Held.kind}

    @property
    def highest_receive_count(self) -> int:
        return max((line["receive_count"] for line in self.outcomes), default=0)

    @property
    def median_event_to_sync_seconds(self) -> float:
        seconds = [
            line["event_to_sync_seconds"]
            for line in self.outcomes
            if "event_to_sync_seconds" in line
        ]
        return statistics.median(seconds) if seconds else 0.0


@dataclass(frozen=True, slots=True)
class Landing:
    """A row of the table: a job, or a message about no job."""

    job: str
    events: int
    outcome: str
    reason: str
    where: str


async def scrape(http: aiohttp.ClientSession, metrics_url: str) -> Figures:
    async with http.get(metrics_url) as answer:
        text = await answer.text()
    families = text_string_to_metric_families(text)
    return Figures(
        [
            (sample.name, sample.labels, sample.value)
            for family in families
            for sample in family.samples
        ]
    )


def logged_outcomes(log_file: Path) -> Sequence[Mapping[str, Any]]:
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").split("\n") if line]
    return [line for line in lines if line["event"] == "job outcome"]


def landings(story: Story, evidence: Evidence) -> Sequence[Landing]:
    """One row per job, in the order in which they ended, then the messages of no job."""
    repeated = Counter(job.mark for act in story.acts for job in act.repeated)
    rows = [_landing(job, len(job.history) + repeated[job.mark], evidence) for job in story.jobs]
    rows += [
        Landing(NO_EVENT, 1, Rejected.kind, letter.reason, letter.detail)
        for letter in evidence.dead_letters
        if letter.body in story.bodies
    ]
    return rows


def shortcomings(story: Story, evidence: Evidence) -> Sequence[str]:
    """The deviations from what the jobs demand, one line each."""
    found = []
    in_target = Counter(run.mark for run in evidence.runs)
    demanded = {job.mark: job for job in story.jobs if job.demands == Synced.kind}
    for mark, job in demanded.items():
        if in_target[mark] != 1:
            found.append(
                f"{job.name} (created {mark.creation_time}) has {in_target[mark]} runs in "
                f"{evidence.system}, not 1"
            )
    for run in evidence.runs:
        if run.mark in demanded:
            found += _lacking(demanded[run.mark], run)
        else:
            found.append(f"{evidence.system} has the run {run.name}, which no job demands")
    dead = [_mark_in(letter.body) for letter in evidence.dead_letters]
    for job in story.jobs:
        wanted = len(job.history) if job.demands == Rejected.kind else 0
        if dead.count(job.mark) != wanted:
            found.append(f"{job.name} has {dead.count(job.mark)} dead letters, not {wanted}")
    letters = [letter.body for letter in evidence.dead_letters]
    found += [
        f"there is no dead letter with the body {body!r}"
        for body in story.bodies
        if body not in letters
    ]
    found += [
        f"the dead letter {letter.body[:60]!r} has no reason"
        for letter in evidence.dead_letters
        if not letter.reason
    ]
    for secret in SECRETS:
        if any(secret in run.content for run in evidence.runs):
            found.append(
                f"a secret hyperparameter is in {evidence.system} ({len(secret)} characters)"
            )
    return found


def _lacking(job: SampleJob, run: FoundRun) -> Sequence[str]:
    """The deviations of a run from its job."""
    found = []
    if run.models != 1:
        found.append(f"the run of {job.name} has {run.models} models, not 1")
    stored = sorted(run.metrics)
    if [name for name, _ in stored] != sorted(job.finite_metrics) or not all(
        math.isclose(value, job.finite_metrics[name], rel_tol=METRIC_TOLERANCE)
        for name, value in stored
    ):
        found.append(
            f"the run of {job.name} has the metrics {_shown(stored)}, not "
            f"{_shown(sorted(job.finite_metrics.items()))}"
        )
    if sorted(run.inputs) != sorted(job.inputs.items()):
        found.append(
            f"the run of {job.name} has the inputs {_shown(sorted(run.inputs))}, not "
            f"{_shown(sorted(job.inputs.items()))}"
        )
    return found


def _shown(pairs: Sequence[tuple[str, object]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in pairs) or "(none)"


def _landing(job: SampleJob, events: int, evidence: Evidence) -> Landing:
    for run in evidence.runs:
        if run.mark == job.mark:
            lines = [line for line in evidence.outcomes if line.get("run_id") == run.run_id]
            synced = next((line for line in lines if line["outcome"] == Synced.kind), {})
            held = any(line["message_id"] in evidence.held for line in lines)
            where = f"{run.project} / {run.experiment} / {run.name}"
            return Landing(
                job.name,
                events,
                f"{Synced.kind} (held)" if held else Synced.kind,
                synced.get("reason", "?"),
                where,
            )
    for letter in evidence.dead_letters:
        if _mark_in(letter.body) == job.mark:
            return Landing(job.name, events, Rejected.kind, letter.reason, letter.detail)
    skipped = [
        line
        for line in evidence.outcomes
        if line["outcome"] == Skipped.kind and line["job"] == job.name
    ]
    if skipped:
        return Landing(
            job.name, events, Skipped.kind, skipped[-1]["reason"], skipped[-1].get("detail", "")
        )
    return Landing(job.name, events, "none", "?", "")


def _mark_in(body: str) -> JobMark | None:
    event = parse_event(body)
    if not isinstance(event, TrainingJobEvent) or event.arn is None or event.creation_time is None:
        return None
    return JobMark(event.arn.key, iso_milliseconds(event.creation_time))
