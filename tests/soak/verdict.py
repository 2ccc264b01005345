"""The contents of ModelDB and of the dead-letter queue at the end, compared with what was sent; and
the daemons' logs.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.real.modeldb_v1_lab import LabServer, expected_model
from tests.support.aws_vectors import parsed_description

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from daemon.training_job.training_run import TrainingRun
    from tests.real.modeldb_v1_lab import StoredRun
    from tests.soak.feed import Books
    from tests.support.daemon_process import DaemonScene, Job

RESTART_SECONDS = 180.0
"""A restart of the server takes less, also on a busy machine."""
PAGE = 1000
"""More than a project of a feed ever has."""
LISTS = ("tags", "attributes", "hyperparameters", "metrics", "datasets", "artifacts")
_INDICES = (
    "ExperimentRun(experiment)",
    "FitEvent(experimentRun)",
    "DataFrame(experimentRun)",
    "HyperParameter(spec)",
    "MetricEvent(transformer)",
)


@dataclass
class Verdict:
    """The result for the jobs of a scene."""

    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    """What is wrong with the dead-letter queue."""
    dead_letters_twice: int = 0
    """A daemon that was killed between sending and deleting sends again; not wrong."""

    @property
    def violations(self) -> list[str]:
        named = {
            "lost": self.lost,
            "twice": self.twice,
            "incomplete": self.incomplete,
            "unwanted": self.unwanted,
        }
        found = [f"{what}: {each}" for what, those in named.items() for each in those]
        return found + [f"dead letters: {each}" for each in self.dead_letters]


def run_of(job: Job) -> TrainingRun:
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    return training_run(
        DescribedJob.of(parsed_description(json.dumps(job.description).encode())),
        tags,
        job.tags,
        (),
    )


async def judge_v2(url: str, projects: Sequence[str], books: Books, verdict: Verdict) -> None:
    """Reads every run of the projects, as soon as the server, which another scene may be
    restarting, answers.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    async with aiohttp.ClientSession() as session:
        for project in projects:
            for run in await _read_patiently(session, url, project):
                attributes = {item["key"]: item["value"] for item in run.get("attributes", ())}
                runs.setdefault(str(attributes.get("sagemaker_training_job_arn")), []).append(run)
    verdict.jobs += len(books.jobs)
    for job in books.jobs:
        found = runs.pop(job.arn, [])
        _count(job, len(found), verdict)
        if len(found) == 1 and (wrong := _differences(job, found[0])):
            verdict.incomplete.append(f"{job.name}: {', '.join(wrong)}")
    verdict.unwanted += sorted(runs)


async def _read_patiently(
    session: aiohttp.ClientSession, url: str, project: str
) -> list[dict[str, Any]]:
    async with asyncio.timeout(RESTART_SECONDS):
        while True:
            try:
                return await _runs(session, url, project)
            except (AssertionError, aiohttp.ClientError):
                await asyncio.sleep(2)


async def _runs(session: aiohttp.ClientSession, url: str, project: str) -> list[dict[str, Any]]:
    async with session.get(f"{url}/project/getProjectByName", params={"name": project}) as answer:
        if answer.status == 404:
            return []
        assert answer.status == 200, await answer.text()
        project_id = (await answer.json())["project_by_user"]["id"]
    # one page: many runs have the same dates, and the server's pages then overlap
    asked = {"project_id": project_id, "page_number": 1, "page_limit": PAGE}
    async with session.post(f"{url}/experiment-run/findExperimentRuns", json=asked) as answer:
        assert answer.status == 200, await answer.text()
        read = await answer.json()
    runs: list[dict[str, Any]] = read.get("experiment_runs", [])
    assert len(runs) == int(read.get("total_records", 0)), (
        f"{project}: {len(runs)} runs read of {read['total_records']}"
    )
    return runs


def _differences(job: Job, run: Mapping[str, Any]) -> list[str]:
    wanted = map_run(run_of(job)).body
    found = [name for name in ("name", "description") if run.get(name) != wanted[name]]
    found += [
        name
        for name in ("start_time", "end_time")
        if name in wanted and int(run[name]) != int(wanted[name])
    ]
    return found + [name for name in LISTS if run.get(name, []) != wanted.get(name, [])]


def judge_v1(server: LabServer, books: Books, verdict: Verdict, folder: Path) -> None:
    """Reads a copy of the server's database, which gets the indices that the server does
    without.
    """
    metadata_store = bool(server.target["metadata_store"])
    folder.mkdir()
    for suffix in ("", "-journal", "-wal"):
        if (part := server.database.with_name(server.database.name + suffix)).exists():
            shutil.copy(part, folder / part.name)
    copy = LabServer(folder, mongo=metadata_store)
    database = sqlite3.connect(copy.database)
    for number, columns in enumerate(_INDICES):
        database.execute(f"CREATE INDEX soak_{number} ON {columns}")
    database.commit()
    database.close()
    runs: dict[str, list[StoredRun]] = {}
    for run in copy.runs():
        runs.setdefault(run.marker, []).append(run)
    verdict.jobs += len(books.jobs)
    for job in books.jobs:
        wanted = map_job(run_of(job), metadata_store=metadata_store)
        found = runs.pop(wanted.marker, [])
        _count(job, len(found), verdict)
        for run in found[:1]:
            if list(run.models) != [expected_model(wanted)]:
                verdict.incomplete.append(
                    f"{job.name}: {len(run.models)} models, not the one that was wanted"
                )
            if set(run.data_frames) != {
                (frame.tag, frame.filepath) for frame in wanted.data_frames
            }:
                verdict.incomplete.append(f"{job.name}: data frames {run.data_frames}")
            if run.project != (
                wanted.project_name,
                wanted.project_user,
                wanted.project_description,
            ):
                verdict.incomplete.append(f"{job.name}: project {run.project}")
    verdict.unwanted += sorted(runs)


def _count(job: Job, runs: int, verdict: Verdict) -> None:
    if runs == 0:
        verdict.lost.append(job.name)
    if runs > 1:
        verdict.twice.append(f"{job.name}: {runs} runs")


async def judge_dead_letters(scene: DaemonScene, books: Books, verdict: Verdict) -> None:
    letters = await scene.dead_letters()
    seen = Counter(letter["Body"] for letter in letters)
    for letter in letters:
        wanted = books.poison.get(letter["Body"])
        attributes = letter.get("MessageAttributes") or {}
        reason = attributes.get("reason", {}).get("StringValue")
        if wanted is None:
            verdict.dead_letters.append(
                f"nobody wanted this one there ({reason}): {letter['Body'][:300]}"
            )
        elif reason != wanted:
            verdict.dead_letters.append(f"{reason} instead of {wanted}: {letter['Body'][:300]}")
    verdict.dead_letters += [
        f"missing ({reason}): {body[:300]}"
        for body, reason in books.poison.items()
        if not seen[body]
    ]
    verdict.dead_letters_twice += sum(count - 1 for count in seen.values())


@dataclass
class Log:
    """The contents of a daemon's log."""

    outcomes: Counter[str] = field(default_factory=Counter)
    of_jobs: Counter[str] = field(default_factory=Counter)
    """Outcomes of the jobs that were asked for."""
    highest_receive_count: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Lines of level error or worse, lines that are no JSON, and the command line's last words
    where it cannot start."""
    healed: int = 0
    terms: int = 0
    """How often this process became the writer of ModelDB V1."""

    @property
    def violations(self) -> list[str]:
        bugs = [
            f"{count} times {words}"
            for words, count in self.outcomes.items()
            if "internal_error" in words
        ]
        return bugs + [
            f"{count} lines of log are no JSON: {words}"
            for words, count in self.errors.items()
            if words.startswith("text: ")
        ]


def read_log(file: Path, jobs: frozenset[str] | None = None) -> Log:
    """Reads a log line by line.

    Args:
        jobs: count receives of these alone; None: of all.
    """
    found = Log()
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # a line may be cut off by a kill
                if line.startswith("error: "):
                    found.errors["could not start"] += 1
                elif not line.startswith("{"):
                    found.errors[f"text: {line.strip()[:120]}"] += 1
                continue
            event = entry.get("event")
            if event == "job outcome":
                found.outcomes[f"{entry['outcome']}/{entry['reason']}"] += 1
                found.healed += entry.get("healed", 0)
                if jobs is None or entry["job"] in jobs:
                    found.of_jobs[f"{entry['outcome']}/{entry['reason']}"] += 1
                    found.highest_receive_count = max(
                        found.highest_receive_count, entry["receive_count"]
                    )
            elif entry.get("level") in {"error", "critical"}:
                found.errors[str(event)] += 1
            found.terms += event == "this process is the writer"
    return found
