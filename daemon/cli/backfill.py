"""``backfill``: sends messages about jobs that no event announced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from daemon.aws.errors import unobserved
from daemon.checkpoint.ports import LeaseLost
from daemon.checkpoint.registry import checkpoint_is_missing, open_checkpoint
from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.cli.progress import ProgressLine
from daemon.cli.signals import first_signal
from daemon.clock import monotonic, wall
from daemon.config.settings import JobStatus, SqliteSettings
from daemon.errors import DaemonError, EdgeFault, SetupFault
from daemon.observability.logs import configure_logging, printable
from daemon.operations.backfill import (
    Backfill,
    DryRun,
    note_name,
)
from daemon.operations.following import QUIET_SECONDS, Followed, follow
from daemon.operations.pacing import Pace
from daemon.operations.when import FORMS, Period, age_text, moment_text, parse_when
from daemon.reasons import Edge
from daemon.wiring import ConfiguredParts

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterator, Sequence

    from daemon.aws.ports import ListedJob, Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.config.settings import Settings
    from daemon.operations.backfill import Progress, Tally
    from daemon.operations.following import Outcomes
    from daemon.training_job.identity import Home

_STATUSES = get_args(JobStatus)
_INTERRUPTED = 130
_AGAIN = "run the same command again"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "backfill",
        summary="send jobs of a period to the queue that no event announced",
        description="Lists SageMaker's training jobs that were created in a period, and sends a "
        "message to the queue about each one that is not known to be in the target; the running "
        "daemons sync them. At most one list request per second, slower when SageMaker throttles. "
        "After Ctrl-C or a fault, the same command goes on where it was. Exit status: 0 done; 1 "
        "something failed, or with --wait some jobs were rejected or are left; 2 usage or "
        "configuration error; 130 interrupted.",
        examples=[
            ("backfill --since 7d --dry-run", "lists what would be sent"),
            ("backfill --since 2026-11-01 --until 2026-11-08", "sends the jobs of one week"),
            ("backfill --since 12h --wait", "waits until the daemons are done, shows outcomes"),
        ],
    )
    add_config_option(parser)
    parser.add_argument(
        "--since",
        required=True,
        metavar="WHEN",
        help=f"jobs created at or after this moment: {FORMS}",
    )
    parser.add_argument(
        "--until", metavar="WHEN", help="jobs created before this moment (default: now)"
    )
    parser.add_argument(
        "--status",
        action="append",
        choices=_STATUSES,
        default=[],
        help="only jobs with this status; may be repeated (default: jobs.statuses)",
    )
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="ID",
        help="only jobs of this account; may be repeated (default: all configured ones)",
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        metavar="NAME",
        help="only jobs of this region; may be repeated (default: all configured ones)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would be sent, and send nothing"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until the daemons are done, and print outcomes"
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew instead of going on where it was"
    )
    parser.add_argument(
        "--no-checkpoint",
        action="store_true",
        help="where the daemon's checkpoint is out of reach, as in a separate ECS task: sends all "
        "jobs of the period, those that are synced end as duplicates; it cannot go on by itself",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.set_defaults(act=act)


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for."""

    period: Period
    statuses: frozenset[str]
    name: str
    dry_run: bool
    wait: bool
    restart: bool
    no_checkpoint: bool
    as_json: bool
    accounts: frozenset[str]
    regions: frozenset[str]
    home: Home | None = None
    """Whose jobs, of several accounts and regions; None: there is only one."""

    @property
    def place(self) -> dict[str, str | None]:
        """For the summary as JSON."""
        if self.home is None:
            return {}
        return {"account": self.home.account, "region": self.home.region}

    def wants(self, home: Home) -> bool:
        """Whether jobs of an account and region are asked for."""
        return (not self.accounts or home.account in self.accounts) and (
            not self.regions or home.region in self.regions
        )

    def of(self, jobs: TrainingJobs, where: str) -> _Order:
        """The same for one of several accounts and regions."""
        return replace(self, home=jobs.home, name=f"{self.name} {where}" if where else self.name)

    def resumes(self, progress: Progress | None) -> str:
        """How an interrupted backfill goes on."""
        if progress is None:
            return _AGAIN
        at = moment_text(progress.position.milliseconds / 1000)
        so_far = f"{progress.tally.listed:,} jobs listed, {progress.tally.sent:,} sent so far"
        if self.no_checkpoint:
            return f"give --since {at.replace(' ', 'T')} to go on there ({so_far})"
        return f"{_AGAIN}: it goes on at {at} ({so_far})"


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    order = _order(arguments, settings)
    configure_logging("error", "console")
    return asyncio.run(_run(settings, order))


def _order(arguments: argparse.Namespace, settings: Settings) -> _Order:
    """What was asked for.

    Raises:
        SetupFault: it cannot be done.
    """
    now = wall()
    until = None if arguments.until is None else parse_when(arguments.until, now)
    period = Period.of(parse_when(arguments.since, now), until, now)
    statuses = frozenset(arguments.status or settings.jobs.statuses)
    unwanted = sorted(statuses - set(settings.jobs.statuses))
    if unwanted:
        raise SetupFault(
            f"--status {unwanted[0]}: the daemons skip such jobs, because jobs.statuses is "
            f"{', '.join(settings.jobs.statuses)}: add {unwanted[0]} there and restart them first"
        )
    if arguments.dry_run and arguments.wait:
        raise SetupFault("--wait: --dry-run sends nothing that could be waited for")
    if arguments.no_checkpoint and arguments.wait:
        raise SetupFault("--wait: the outcomes are in the checkpoint; leave --no-checkpoint out")
    return _Order(
        period,
        statuses,
        note_name(arguments.since, arguments.until, statuses),
        arguments.dry_run,
        arguments.wait,
        arguments.restart,
        arguments.no_checkpoint,
        arguments.json,
        frozenset(arguments.account),
        frozenset(arguments.region),
    )


async def _run(settings: Settings, order: _Order) -> int:
    shown = ProgressLine()
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        shown.say("ending after the request under way; once more ends at once")

    with first_signal(end):
        async with _parts(settings, order) as (queue, jobs, checkpoint):
            status = 0
            for ordered, some in await _chosen(order, jobs):
                if ordered.home is not None:
                    shown.say(f"account {ordered.home.account} in {ordered.home.region}")
                try:
                    ended = (
                        await _list(ordered, some, checkpoint, stop, shown)
                        if ordered.dry_run
                        else await _send(settings, ordered, queue, some, checkpoint, stop, shown)
                    )
                except EdgeFault as fault:
                    if ordered.home is None or fault.edge is not Edge.SAGEMAKER:
                        raise
                    shown.clear()
                    shown.say(f"{_words(fault)}; then {_AGAIN}")
                    ended = 1
                if ended == _INTERRUPTED:
                    return ended
                status = max(status, ended)
            return status


async def _chosen(order: _Order, jobs: TrainingJobs) -> Sequence[tuple[_Order, TrainingJobs]]:
    """What is to be done in each account and region.

    Raises:
        SetupFault: none that is configured was asked for.
        EdgeFault: SageMaker of the daemon's own account does not work.
    """
    if not jobs.elsewhere and not (order.accounts or order.regions):
        return [(order, jobs)]
    if jobs.home.account is None and order.accounts:
        await jobs.probe()  # asks STS for the account
    places = [("", jobs), *jobs.elsewhere.items()]
    chosen = [(order.of(each, where), each) for where, each in places if order.wants(each.home)]
    if not chosen:
        known = ", ".join(f"{each.home.account} in {each.home.region}" for _, each in places)
        raise SetupFault(f"--account, --region: no such jobs are configured, only those of {known}")
    return chosen


@contextlib.asynccontextmanager
async def _parts(
    settings: Settings, order: _Order
) -> AsyncIterator[tuple[Queue, TrainingJobs, Checkpoint]]:
    async with contextlib.AsyncExitStack() as stack:
        section = settings.checkpoint
        if order.no_checkpoint:
            empty = stack.enter_context(tempfile.TemporaryDirectory(prefix="modeldb-sync-"))
            section = SqliteSettings(path=Path(empty) / "checkpoint.db")
        elif missing := checkpoint_is_missing(section):
            raise SetupFault(
                f"checkpoint.path: {missing}; run backfill where the daemon runs, or with "
                "--no-checkpoint"
            )
        checkpoint = await open_checkpoint(section, settings.target.target_place)
        stack.push_async_callback(checkpoint.aclose)
        try:
            async with ConfiguredParts(settings).aws(unobserved) as (queue, jobs):
                yield queue, jobs, checkpoint
        except EdgeFault as fault:
            raise _Failed(f"{_words(fault)}; then {_AGAIN}") from fault


class _Failed(DaemonError):
    """A fault of an edge, with the next step."""


async def _list(
    order: _Order,
    jobs: TrainingJobs,
    checkpoint: Checkpoint,
    stop: asyncio.Event,
    shown: ProgressLine,
) -> int:
    """Prints what would be sent."""
    listed = DryRun(jobs, checkpoint, order.period, statuses=order.statuses, pace=Pace(), stop=stop)
    async for page in listed.run():
        shown.clear()
        for job, known in page:
            print(_line(job, known, as_json=order.as_json))
        tally = listed.progress.tally
        shown.show(
            f"{tally.listed:,} jobs listed, {tally.to_send:,} to send", listed.progress.fraction
        )
    shown.clear()
    tally = listed.progress.tally
    if stop.is_set():
        shown.say(f"interrupted after {tally.listed:,} jobs: {_AGAIN} to list them all")
        return _INTERRUPTED
    if order.as_json:
        summary = {
            "kind": "summary",
            "dry_run": True,
            **order.place,
            **_period(order.period),
            **asdict(tally),
        }
        print(json.dumps(summary | {"to_send": tally.to_send}))
    else:
        print(f"{_sentence(tally, f'{tally.to_send:,} would be sent')}; nothing was sent")
    return 0


def _line(job: ListedJob, known: JobRecord | None, *, as_json: bool) -> str:
    state = "" if known is None else known.state.value
    reason = "" if known is None else known.reason
    created = moment_text(job.creation_time.timestamp())
    if as_json:
        return json.dumps(
            {
                "kind": "job",
                "job_name": job.name,
                "job_arn": job.arn,
                "status": job.status,
                "creation_time": job.creation_time.isoformat(),
                "state": state or None,
                "reason": reason or None,
            }
        )
    words = f"{state} {reason}".strip() or "unknown"
    return f"{created}  {job.status:<9}  {words:<28}  {printable(job.name)}"


async def _send(
    settings: Settings,
    order: _Order,
    queue: Queue,
    jobs: TrainingJobs,
    checkpoint: Checkpoint,
    stop: asyncio.Event,
    shown: ProgressLine,
) -> int:
    begun = monotonic()
    backfill = Backfill(
        jobs,
        queue,
        checkpoint,
        name=order.name,
        statuses=order.statuses,
        pace=Pace(),
        stop=stop,
    )
    backfill.on_progress = _Meter(shown, backfill).show
    try:
        finished = await backfill.run(order.period, restart=order.restart)
    except EdgeFault as fault:
        shown.clear()
        if order.home is not None and fault.edge is Edge.SAGEMAKER:
            raise
        raise _Failed(f"{_words(fault)}; then {order.resumes(backfill.progress)}") from fault
    except LeaseLost as fault:
        shown.clear()
        raise _Failed(
            "another process has taken over this backfill, or the checkpoint did not answer for "
            f"minutes; {order.resumes(backfill.progress)}"
        ) from fault
    progress = backfill.progress
    shown.clear()
    if progress is None or not finished:
        shown.say(f"interrupted: {order.resumes(progress)}")
        return _INTERRUPTED
    tally = progress.tally
    took = age_text(monotonic() - begun)
    outcomes = None
    if order.wait:
        followed = Followed(settings.target.target_place, progress.period, progress.begun_at)
        outcomes = await _wait(checkpoint, followed, stop, shown)
    if order.as_json:
        print(
            json.dumps(
                {
                    "kind": "summary",
                    "dry_run": False,
                    **order.place,
                    **_period(progress.period),
                    **asdict(tally),
                    "requests": backfill.requests,
                    "throttles": backfill.throttles,
                    "outcomes": None if outcomes is None else _outcomes(outcomes),
                }
            )
        )
    else:
        print(
            f"{_sentence(tally, f'{tally.sent:,} sent to the queue')}\n"
            f"list requests: {backfill.requests:,}, {backfill.throttles:,} of them throttled, "
            f"in {took}"
        )
        for line in () if outcomes is None else _outcome_lines(outcomes):
            print(line)
    if stop.is_set():
        shown.say("interrupted: all is sent, and the daemons go on without this command")
        return _INTERRUPTED
    unhappy = outcomes is not None and (outcomes.left or outcomes.rejected)
    return 1 if tally.refused or unhappy else 0


class _Meter:
    """Shows the progress of a backfill; first of all, what it does."""

    def __init__(self, shown: ProgressLine, backfill: Backfill) -> None:
        self._shown = shown
        self._backfill = backfill
        self._begun: tuple[float, int] | None = None

    def show(self, progress: Progress) -> None:
        tally = progress.tally
        if self._begun is None:
            self._begun = (monotonic(), tally.listed)
            self._shown.say(self._headline(progress))
        since, before = self._begun
        rate = (tally.listed - before) / max(1.0, monotonic() - since)
        throttles = self._backfill.throttles
        slowed = f", throttled {throttles:,} times" if throttles else ""
        self._shown.show(
            f"{tally.listed:,} jobs listed, {tally.sent:,} sent, {rate:,.0f} jobs/s{slowed}",
            progress.fraction,
        )

    def _headline(self, progress: Progress) -> str:
        period = progress.period
        jobs = f"jobs created from {moment_text(period.since)} to {moment_text(period.until)}"
        if not self._backfill.resumed:
            return jobs
        return (
            f"going on with the backfill begun {moment_text(progress.begun_at)}: {jobs}, now at "
            f"{moment_text(progress.position.milliseconds / 1000)} (--restart begins anew)"
        )


async def _wait(
    checkpoint: Checkpoint, followed: Followed, stop: asyncio.Event, shown: ProgressLine
) -> Outcomes:
    warned = False

    def on_poll(left: int, quiet: float) -> None:
        nonlocal warned
        shown.show(f"waiting for the daemons: {left:,} jobs left")
        if quiet < QUIET_SECONDS:
            warned = False
        elif not warned:
            warned = True
            shown.say(
                f"nothing has changed for {age_text(quiet)}, {left:,} jobs are left: is a daemon "
                "running, and does /readyz say that it is working?"
            )

    outcomes = await follow(checkpoint, followed, stop, on_poll)
    shown.clear()
    return outcomes


def _words(fault: EdgeFault) -> str:
    """What is wrong, and what to do."""
    # an advice to those who run the daemon
    return fault.detail.removesuffix(": the daemon backs off and retries")


def _sentence(tally: Tally, to_send: str) -> str:
    parts = [
        to_send,
        f"{tally.synced:,} already synced",
        f"{tally.unfinished:,} unfinished (they announce themselves)" if tally.unfinished else "",
        f"{tally.other_status:,} of another status" if tally.other_status else "",
        f"{tally.refused:,} refused by SQS ({', '.join(map(printable, tally.refused_names))})"
        if tally.refused
        else "",
    ]
    return f"{tally.listed:,} jobs listed: {', '.join(filter(None, parts))}"


def _period(period: Period) -> dict[str, str]:
    return {"since": moment_text(period.since), "until": moment_text(period.until)}


def _outcomes(outcomes: Outcomes) -> dict[str, object]:
    counted = [
        {"state": state, "reason": reason, "jobs": count}
        for (state, reason), count in outcomes.counts.items()
    ]
    return {"counts": counted, "left": outcomes.left}


def _outcome_lines(outcomes: Outcomes) -> Iterator[str]:
    for (state, reason), count in outcomes.counts.items():
        yield f"{count:>8,}  {state}  {reason}".rstrip()
    if outcomes.left:
        yield (
            f"{outcomes.left:>8,}  left: nothing has come of them yet; see history --outcome "
            "enqueued --outcome released"
        )
