"""The story of a checkpoint that is lost, as with each deployment on Fargate, told with the daemon
as a process: days later, messages come again of jobs whose project was changed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.support.daemon_process import FULL_TAGS, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene

DAYS = 2
WAYS = ("by hand, a name", "by hand, the detail", "moved back", "redriven with a reason")


def age(checkpoint: Path, days: float) -> None:
    """As if the checkpoint had been in use for so long."""
    with contextlib.closing(sqlite3.connect(checkpoint)) as connection, connection:
        seconds = days * 86400
        connection.execute(
            "UPDATE meta SET value = value - ? WHERE name = 'created_at'", (seconds,)
        )
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'targets'").fetchone():
            connection.execute("UPDATE targets SET created_at = created_at - ?", (seconds,))


async def come_again_after_a_lost_checkpoint(
    scene: DaemonScene,
    free_port: Callable[[], int],
    project: str,
    **sections: Mapping[str, Any],
) -> tuple[Sequence[Job], list[dict[str, Any]]]:
    """Syncs a job for each of `WAYS` to a project, loses the checkpoint, and lets each come again
    with another project's tag.

    Returns:
        The jobs, and the outcomes of the second time.
    """
    jobs = [
        Job(f"{project}-{number}", FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project})
        for number in range(len(WAYS))
    ]
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port(), **sections)
    await daemon.start()
    await scene.send([job.event for job in jobs])
    await daemon.outcomes(len(jobs), outcome="synced")
    assert await daemon.stop() == 0
    for file in scene.home.glob("checkpoint.db*"):
        file.unlink()

    daemon = scene.daemon(free_port(), **sections)
    await daemon.start()
    await daemon.ready()
    assert await daemon.stop() == 0
    age(scene.home / "checkpoint.db", DAYS)
    moved = [
        replace(job, tags={**job.tags, "MODEL_DB_PROJECT_NAME": f"{project}-changed"})
        for job in jobs
    ]
    scene.finish_jobs(moved)
    await scene.send(
        [
            json.dumps({"TrainingJobName": moved[0].name, "TrainingJobArn": moved[0].arn}),
            json.dumps(json.loads(moved[1].event)["detail"]),
            moved[2].event,
        ]
    )
    await scene.send([moved[3].event], reason="tags_incomplete")
    daemon = scene.daemon(free_port(), **sections)
    await daemon.start()
    outcomes = await daemon.outcomes(len(jobs))
    await scene.drained()
    assert await daemon.stop() == 0
    return jobs, outcomes
