"""Jobs per second to a real MLflow: this daemon's target beside a bare loop of the same calls, in
one run.

    MLFLOW_LAB=.../control-script .venv/bin/python -m benchmarks.mlflow

The control script starts and ends the server, see tests/real/mlflow_lab.py. Both write the same
jobs (10 hyperparameters, 2 channels, 5 metrics) to an experiment and a model that exist: search,
create, batch, inputs, model version, update. They take turns in each round, so that a machine that
gets slower meets both.

The bare loop sends the calls over aiohttp (`mlflow_calls.BareLoop`). Ours is the whole of it:
claim, journal and record in a SQLite checkpoint on the disk. At the end, all our jobs are read back
with MLflow's official client and compared field by field.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.mlflow_calls import BareLoop, Variant
from benchmarks.modeldb_v1_jobs import BenchmarkJob
from daemon.app import LEASE_SECONDS
from daemon.checkpoint.journal import Journal
from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.reasons import Reason
from daemon.targets.kind import TargetContext
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.mlflow.target import open_mlflow
from daemon.targets.place import TargetPlace
from tests.real.mlflow_lab import LAB, lab_server
from tests.real.mlflow_readback import mapped, read, run_of, wrong
from tests.support.daemon_process import FULL_TAGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from daemon.targets.mlflow.target import MlflowTarget
    from tests.real.mlflow_lab import LabServer
    from tests.real.mlflow_readback import Readback
    from tests.support.daemon_process import Job

BARE, OURS = "bare loop", "ours"


@dataclass(frozen=True)
class MlflowJob(BenchmarkJob):
    """With a model at a location of its own."""

    @property
    def description(self) -> dict[str, Any]:
        artifacts = {"S3ModelArtifacts": f"s3://acme-ml/{self.name}/output/model.tar.gz"}
        return super().description | {"ModelArtifacts": artifacts}


def some_jobs(place: str, count: int) -> Sequence[Job]:
    """Jobs with names of their own, in one project and of one model."""
    tags = {"MODEL_DB_PROJECT_NAME": place, "MODEL_DB_MODEL_NAME": place}
    return [MlflowJob(f"{place}-{number:03d}", FULL_TAGS | tags) for number in range(count)]


async def per_second(
    write: Callable[[Job], Awaitable[None]], jobs: Sequence[Job], at_once: int
) -> float:
    """Jobs per second, without the first one, which makes experiment and model."""
    await write(jobs[0])
    left = iter(jobs[1:])

    async def worker() -> None:
        for job in left:
            await write(job)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return (len(jobs) - 1) / (time.perf_counter() - begun)


# --- the bare loop --------------------------------------------------------------------------------


async def write_bare(loop: BareLoop, job: Job) -> None:
    """The six calls of a job."""
    run = mapped(job)
    assert run.model is not None
    if not loop.experiment:
        made = await loop.call("experiments/create", {"name": run.experiment_name})
        loop.experiment = made["experiment_id"]
        await loop.call("registered-models/create", {"name": run.model.name})
    await loop.call(
        "runs/search",
        {
            "experiment_ids": [loop.experiment],
            "filter": f"tags.`sagemaker_training_job_arn` = '{run.mark.arn}'",
            "run_view_type": "ALL",
        },
    )
    made = await loop.call(
        "runs/create",
        {
            "experiment_id": loop.experiment,
            "run_name": run.run_name,
            "start_time": run.start_time,
            "tags": _pairs(run.tags),
        },
    )
    run_id = made["run"]["info"]["run_id"]
    metrics = [
        {"key": each.key, "value": each.value, "timestamp": each.timestamp, "step": each.step}
        for each in run.metrics
    ]
    batch = {"run_id": run_id, "metrics": metrics, "params": _pairs(run.params)}
    await loop.call("runs/log-batch", batch)
    datasets = [
        {
            "dataset": {
                "name": each.name,
                "digest": each.digest,
                "source_type": each.source_type,
                "source": each.source,
            },
            "tags": [{"key": "mlflow.data.context", "value": each.context}],
        }
        for each in run.inputs
    ]
    await loop.call("runs/log-inputs", {"run_id": run_id, "datasets": datasets})
    await loop.call(
        "model-versions/create",
        {
            "name": run.model.name,
            "source": run.model.source,
            "run_id": run_id,
            "description": run.model.version_description,
            "tags": _pairs(run.model.tags),
        },
    )
    await loop.call(
        "runs/update", {"run_id": run_id, "status": run.status, "end_time": run.end_time}
    )


def _pairs(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in texts.items()]


async def bare(url: str, place: str, count: int, at_once: int) -> float:
    async with BareLoop(url, Variant.PROMPT) as loop:
        return await per_second(lambda job: write_bare(loop, job), some_jobs(place, count), at_once)


# --- ours -----------------------------------------------------------------------------------------


async def ours(server: LabServer, home: Path, jobs: Sequence[Job], at_once: int) -> float:
    checkpoint = await open_sqlite_checkpoint(
        home / f"{uuid.uuid4().hex}.db", TargetPlace("mlflow", server.url)
    )
    target = open_mlflow(MlflowSettings(**server.target()), TargetContext())
    try:
        return await per_second(lambda job: write(target, checkpoint, job), jobs, at_once)
    finally:
        await target.aclose()
        await checkpoint.aclose()


async def write(target: MlflowTarget, checkpoint: SqliteCheckpoint, job: Job) -> None:
    """As the daemon does it, from the claim to the record."""
    run = run_of(job)
    claim = await checkpoint.claim(job.arn, LEASE_SECONDS)
    assert isinstance(claim, Claim)
    journal = Journal(
        checkpoint,
        claim,
        run.mark,
        job.name,
        await checkpoint.job(run.mark),
        look_up_first=False,
        lease_seconds=LEASE_SECONDS,
    )
    done = await target.sync(run, journal)
    assert done.created
    await checkpoint.record_synced(
        claim,
        run.mark,
        job.name,
        reason=Reason.CREATED,
        detail="",
        target_ids=done.ids,
        message_id=job.name,
    )


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=24, help="in a round of either")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--workers", type=int, default=1, help="of the server")
    arguments = parser.parse_args()
    if not LAB:
        parser.error("MLFLOW_LAB names no control script")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
    print("| at once | client | jobs/s: min | median | max | times the bare loop |")
    print("|---|---|---|---|---|---|")
    written: list[Job] = []
    with tempfile.TemporaryDirectory() as home:
        async with lab_server(workers=arguments.workers) as server:
            for at_once in arguments.at_once:
                figures: dict[str, list[float]] = {BARE: [], OURS: []}
                for number in range(-1, arguments.rounds):  # the first one warms the server up
                    place = f"{at_once}-{number}-{uuid.uuid4().hex[:6]}"
                    count = arguments.jobs + 1
                    theirs = await bare(server.url, f"bare-{place}", count, at_once)
                    jobs = some_jobs(f"ours-{place}", count)
                    written += jobs
                    seen = await ours(server, Path(home), jobs, at_once)
                    if number >= 0:
                        figures[BARE].append(theirs)
                        figures[OURS].append(seen)
                print_rows(at_once, figures)
            incomplete = wrong(written, only_ours(await read(server.url)))
    for each in incomplete[:10]:
        print(each)
    print(f"{len(written)} jobs of ours; {len(incomplete)} deviations in the server")
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 1 if incomplete else 0


def only_ours(found: Readback) -> Readback:
    """Without the runs of the bare loop."""
    ids = {each["id"] for each in found.experiments if each["name"].startswith("ours-")}
    return replace(
        found,
        runs=[each for each in found.runs if each["experiment_id"] in ids],
        versions=[each for each in found.versions if each["name"].startswith("ours-")],
    )


def print_rows(at_once: int, figures: Mapping[str, Sequence[float]]) -> None:
    medians = {client: statistics.median(each) for client, each in figures.items()}
    for client, each in figures.items():
        numbers = " | ".join(f"{value:.1f}" for value in (min(each), medians[client], max(each)))
        print(f"| {at_once} | {client} | {numbers} | {medians[client] / medians[BARE]:.2f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
