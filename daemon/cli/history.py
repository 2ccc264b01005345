"""``history``: lists the contents of the checkpoint."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from daemon.checkpoint.ports import HistoryFilter, JobRecord, JobState
from daemon.cli.common import add_config_option, add_verb, settings_of, when
from daemon.clock import wall
from daemon.observability.logs import printable
from daemon.operations.history import changed_at, follow, history
from daemon.operations.when import Period, moment_text
from daemon.reasons import Reason
from daemon.targets.place import TargetPlace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.config.settings import CheckpointSettings
    from daemon.operations.history import Change

DEFERRED = "deferred"
"""The outcome after which a row is in `JobState.RELEASED`."""
_LIMIT, _FOLLOW_LIMIT = 1000, 10
_COLUMNS = ("CHANGED", "STATE", "REASON", "JOB", "RUN OR DETAIL")
_WIDTHS = (20, 9, 18, 30)
"""Of the first columns while following; a listing measures its rows."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "history",
        summary="list what became of jobs and messages",
        description="Lists the jobs in the checkpoint, most recently changed first, and the "
        "rejected messages that name no job. Filters are combined: a job must pass all of them. "
        "Where the listed jobs are of several targets, it says of which. WHEN is an age (7d, 12h, "
        "30m) or an ISO date or time, UTC unless it has an offset.",
        examples=[
            ("history --since 12h", "what changed in the last twelve hours"),
            (
                "history --outcome rejected --outcome deferred --since 7d",
                "jobs of a week that are not in the target",
            ),
            ("history --reason tags_incomplete --project Fraud --follow", "as it happens"),
            ("history --job churn --json | jq -r .job_name", "the names of some jobs"),
        ],
    )
    add_config_option(parser)
    parser.add_argument(
        "--outcome",
        choices=[DEFERRED, *(state.value for state in JobState)],
        action="append",
        default=[],
        metavar="OUTCOME",
        help="only jobs in this state (%(choices)s; deferred is the same as released); may be "
        "repeated",
    )
    parser.add_argument(
        "--reason",
        choices=sorted(reason.value for reason in Reason),
        action="append",
        default=[],
        metavar="REASON",
        help="only jobs with this reason, such as tags_incomplete; may be repeated",
    )
    parser.add_argument(
        "--project", default="", metavar="NAME", help="only jobs of this project (whole name)"
    )
    parser.add_argument(
        "--job", default="", metavar="TEXT", help="only jobs whose name or ARN contains this"
    )
    parser.add_argument(
        "--since", type=when, metavar="WHEN", help="only what changed at this time or later"
    )
    parser.add_argument(
        "--until", type=when, metavar="WHEN", help="only what changed before this time"
    )
    parser.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help=f"at most N jobs (default: {_LIMIT}; with --follow {_FOLLOW_LIMIT} earlier changes)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="show new changes as they come, oldest first, until Ctrl-C",
    )
    parser.set_defaults(act=act, interrupted="")


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.since is not None:
        Period.of(arguments.since, arguments.until, wall())
    limit = arguments.limit or (_FOLLOW_LIMIT if arguments.follow else _LIMIT)
    wanted = HistoryFilter(
        states=tuple(_state(outcome) for outcome in arguments.outcome),
        reasons=tuple(arguments.reason),
        job=arguments.job,
        project=arguments.project,
        since=arguments.since,
        until=arguments.until,
        limit=limit,
    )
    if arguments.follow:
        asyncio.run(_follow(settings.checkpoint, wanted, as_json=arguments.json))
        return 0
    found = asyncio.run(history(settings.checkpoint, wanted))
    changes: Sequence[Change] = [*found.jobs, *found.messages]
    for line in _json_lines(changes) if arguments.json else _table(changes):
        print(line)
    if len(found.jobs) == limit and not arguments.json:
        print(f"only the latest {limit}: --limit shows more, --since and others choose")
    return 0


async def _follow(settings: CheckpointSettings, wanted: HistoryFilter, *, as_json: bool) -> None:
    def waiting(why: str) -> None:
        print(printable(f"waiting: {why}"), file=sys.stderr, flush=True)

    if not as_json:
        print(_line(_COLUMNS, _WIDTHS), flush=True)
    async for change in follow(settings, wanted, waiting):
        line = json.dumps(fields(change)) if as_json else _line(_row(change), _WIDTHS)
        print(line, flush=True)


def fields(change: Change) -> Mapping[str, Any]:
    """A job or message as JSON data: the documented members."""
    if isinstance(change, JobRecord):
        return {
            "kind": "job",
            "job_arn": change.job_arn,
            "job_name": change.job_name,
            "creation_time": change.creation_time,
            "state": change.state.value,
            "reason": change.reason,
            "detail": change.detail,
            "project": change.project,
            "target": change.target,
            "place": change.place,
            "target_ids": dict(change.target_ids),
            "attempts": change.attempts,
            "unanswered_writes": change.unanswered_writes,
            "steps": dict(change.steps),
            "message_id": change.message_id,
            "first_seen_at": change.first_seen_at,
            "updated_at": change.updated_at,
        }
    return {
        "kind": "message",
        "message_id": change.message_id,
        "job_arn": change.job_arn,
        "reason": change.reason,
        "detail": change.detail,
        "body": change.body,
        "rejected_at": change.rejected_at,
    }


def _state(outcome: str) -> JobState:
    return JobState.RELEASED if outcome == DEFERRED else JobState(outcome)


def _json_lines(changes: Sequence[Change]) -> Iterator[str]:
    return (json.dumps(fields(change)) for change in changes)


def _table(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield "nothing recorded that fits"
        return
    jobs = [change for change in changes if isinstance(change, JobRecord)]
    several = len({(job.target, job.place) for job in jobs}) > 1
    rows = [_COLUMNS, *(_row(change, with_target=several) for change in changes)]
    widths = tuple(max(len(row[column]) for row in rows) for column in range(4))
    yield from (_line(row, widths) for row in rows)


def _row(change: Change, *, with_target: bool = False) -> tuple[str, str, str, str, str]:
    """Names and details come from outside."""
    if not isinstance(change, JobRecord):
        job = change.job_arn or f"message {change.message_id}"
        state, said = JobState.REJECTED.value, change.detail
    else:
        job, state = change.job_name or change.job_arn, change.state.value
        said = change.target_ids.get("run_id", "") or change.detail
        said += f"  [{TargetPlace(change.target, change.place)}]" if with_target else ""
    return moment_text(changed_at(change)), state, change.reason, printable(job), printable(said)


def _line(row: tuple[str, ...], widths: tuple[int, ...]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    return "  ".join([*cells, row[-1]]).rstrip()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
