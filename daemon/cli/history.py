"""``history``: lists the contents of the checkpoint."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import HistoryFilter, JobState
from daemon.checkpoint.registry import open_checkpoint
from daemon.cli.common import add_config_option, settings_of
from daemon.observability.logs import printable
from daemon.targets.place import ANY_TARGET, TargetPlace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from daemon.checkpoint.ports import JobRecord, RejectedMessage
    from daemon.config.settings import SqliteSettings


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "history",
        help="list jobs and rejected messages in the checkpoint",
        description="Lists the jobs in the checkpoint, most recently changed first, and the "
        "rejected messages that name no job. Where the listed jobs are of several targets, it says "
        "of which.",
    )
    add_config_option(parser)
    parser.add_argument(
        "--outcome",
        choices=[state.value for state in JobState],
        action="append",
        default=[],
        help="only jobs in this state; may be repeated",
    )
    parser.add_argument(
        "--job", default="", metavar="TEXT", help="only jobs whose name or ARN contains this"
    )
    parser.add_argument(
        "--limit",
        type=_positive,
        default=1000,
        metavar="N",
        help="at most N (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    wanted = HistoryFilter(
        states=tuple(JobState(state) for state in arguments.outcome),
        job=arguments.job,
        limit=arguments.limit,
    )
    jobs, messages = asyncio.run(_read(settings.checkpoint, wanted))
    for line in _json_lines(jobs, messages) if arguments.json else _table(jobs, messages):
        print(line)
    return 0


async def _read(
    settings: SqliteSettings, wanted: HistoryFilter
) -> tuple[Sequence[JobRecord], Sequence[RejectedMessage]]:
    checkpoint = await open_checkpoint(settings, ANY_TARGET, create=False)
    try:
        jobs = await checkpoint.history(wanted)
        rejected_wanted = not wanted.states or JobState.REJECTED in wanted.states
        messages = await checkpoint.rejected_messages(wanted.limit) if rejected_wanted else ()
    finally:
        await checkpoint.aclose()
    shown = {job.message_id for job in jobs}
    needle = wanted.job.lower()
    # A rejected message is shown with its job, unless its body is kept here.
    return jobs, [
        each
        for each in messages
        if (each.message_id not in shown or each.body is not None) and needle in each.job_arn
    ]


def _json_lines(jobs: Sequence[JobRecord], messages: Sequence[RejectedMessage]) -> Iterator[str]:
    for job in jobs:
        yield json.dumps({"kind": "job", **asdict(job), "target_ids": dict(job.target_ids)})
    for message in messages:
        yield json.dumps({"kind": "message", **asdict(message)})


def _table(jobs: Sequence[JobRecord], messages: Sequence[RejectedMessage]) -> Iterator[str]:
    several = len({(job.target, job.place) for job in jobs}) > 1
    rows = [("CHANGED", "STATE", "REASON", "JOB", "RUN OR DETAIL")]
    rows += [
        (
            _when(job.updated_at),
            job.state.value,
            job.reason,
            printable(job.job_name or job.job_arn),
            # names and details come from outside
            printable(
                (job.target_ids.get("run_id", "") or job.detail)
                + (f"  [{TargetPlace(job.target, job.place)}]" if several else "")
            ),
        )
        for job in jobs
    ]
    rows += [
        (
            _when(message.rejected_at),
            "rejected",
            message.reason,
            printable(message.job_arn or f"message {message.message_id}"),
            printable(message.detail),
        )
        for message in messages
    ]
    if len(rows) == 1:
        yield "nothing recorded yet"
        return
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
        ).rstrip()


def _when(epoch_seconds: float) -> str:
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
