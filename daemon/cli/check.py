"""``check``: validates the configuration and tests every dependency."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.aws.metric_series import MetricSeriesReader
from daemon.aws.queue import SqsQueue
from daemon.aws.queue_names import QueueName
from daemon.aws.training_jobs import PROBE_NAME, SageMakerTrainingJobs, resolve_home
from daemon.aws.tuning_jobs import TuningJobs
from daemon.checkpoint.registry import checkpoint_advice, jobs_of_others, open_checkpoint
from daemon.cli.common import add_config_option, settings_of
from daemon.errors import DaemonError, EdgeFault, SetupFault
from daemon.intake.queue_monitor import LEAST_RECEIVES
from daemon.observability.logs import configure_logging, printable
from daemon.targets.place import ANY_TARGET
from daemon.targets.registry import TARGET_KINDS, open_target
from daemon.training_job.identity import JobArn
from daemon.wiring import open_configured_clients, reads_metric_series

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterator

    from daemon.aws.clients import AwsClients
    from daemon.aws.ports import QueueState
    from daemon.config.settings import Settings
    from daemon.training_job.identity import Home

NO_REDRIVE_POLICY = (
    "give the queue a redrive policy: without one, rejected messages are kept in the checkpoint, "
    "and a job that never works is tried until its message expires"
)


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "check",
        help="validate the configuration and test every dependency",
        description="Validates the configuration, then tests the queue, its dead-letter queue, "
        "SageMaker, the checkpoint and the target, and prints one line per check, with a "
        "suggested fix for failures. Receives no messages and writes only a probe in the "
        "checkpoint. Exit status: 0 if all checks pass, 1 if one fails, 2 for a configuration "
        "error.",
    )
    add_config_option(parser)
    parser.add_argument("--offline", action="store_true", help="validate only the configuration")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    configure_logging("error", "console")
    print("ok    configuration")
    return 0 if arguments.offline else asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> int:
    failed = False
    async for finding in ask_every_edge(settings):
        failed = failed or not finding.ok
        word = "ok   " if finding.ok else "FAIL "
        print(
            printable(f"{word} {finding.what}{': ' if finding.detail else ''}{finding.detail}"),
            flush=True,
        )
        for note in finding.notes:
            print(printable(f"      note: {note}"), flush=True)
    return 1 if failed else 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer."""

    what: str
    ok: bool
    detail: str = ""
    notes: tuple[str, ...] = ()
    """What to do, or what to know."""


async def ask_every_edge(settings: Settings) -> AsyncIterator[Finding]:
    """Asks the queue, its dead-letter queue, SageMaker, the checkpoint and the target. Never raises
    for what it finds.
    """
    try:
        async with open_configured_clients(settings) as clients:
            findings, queue_arn = await _queue(settings, clients)
            for finding in findings:
                yield finding
            yield await _sagemaker(settings, clients, queue_arn)
    except (SetupFault, EdgeFault) as fault:
        detail = fault.detail if isinstance(fault, EdgeFault) else str(fault)
        for what in ("queue", "SageMaker"):
            yield Finding(what, ok=False, detail=detail)
    yield await _checkpoint(settings)
    yield await _target(settings)


async def _queue(settings: Settings, clients: AwsClients) -> tuple[list[Finding], str]:
    """The findings, and the queue's ARN; "" if it has not told it."""
    queue = SqsQueue(
        clients.sqs_polling,
        clients.sqs,
        settings.queue.url,
        dead_letter_url=settings.queue.dead_letter_url,
    )
    try:
        state = await queue.state()
        # a handle that cannot exist: the permission is checked, nothing is deleted
        await queue.delete(["modeldb-sync-check"])
    except EdgeFault as fault:
        return [Finding("queue", ok=False, detail=fault.detail)], ""
    words = (
        f"{settings.queue.url} has {state.visible} visible, {state.in_flight} in flight, "
        f"{state.delayed} delayed"
    )
    return [
        Finding("queue", ok=True, detail=words, notes=_queue_advice(state)),
        _dead_letters(state, queue.dead_letter_problem),
    ], state.arn


def _queue_advice(state: QueueState) -> tuple[str, ...]:
    advice = ["sqs:ReceiveMessage is not asked, because a receive counts"]
    if state.max_receive_count is not None and state.max_receive_count < LEAST_RECEIVES:
        advice.append(
            f"maxReceiveCount is {state.max_receive_count}: set it to {LEAST_RECEIVES} or more (10 "
            "is usual)"
        )
    return tuple(advice)


def _dead_letters(state: QueueState, problem: str | None) -> Finding:
    if problem is not None:
        return Finding("dead-letter queue", ok=False, detail=problem)
    if state.dead_letter_url is None:
        return Finding(
            "dead-letter queue",
            ok=True,
            detail="none",
            notes=(NO_REDRIVE_POLICY,),
        )
    return Finding(
        "dead-letter queue",
        ok=True,
        detail=f"{state.dead_letter_url} has {state.dead_letter_messages} messages",
    )


async def _sagemaker(settings: Settings, clients: AwsClients, queue_arn: str) -> Finding:
    try:
        home = await resolve_home(clients, settings.aws.account_id)
        await SageMakerTrainingJobs(clients.sagemaker, home).probe()
    except DaemonError as fault:
        return Finding(
            "SageMaker",
            ok=False,
            detail=fault.detail if isinstance(fault, EdgeFault) else str(fault),
        )
    return Finding(
        "SageMaker",
        ok=True,
        detail=f"account {home.account or 'unknown'} in {home.region}",
        notes=(
            *_account_advice(home, QueueName.of_arn(queue_arn)),
            *await _richer_record_advice(settings, clients, home),
        ),
    )


async def _richer_record_advice(
    settings: Settings, clients: AwsClients, home: Home
) -> tuple[str, ...]:
    """Asks what runs can do without."""
    problem = await TuningJobs(clients.sagemaker).probe()
    notes = (
        [] if problem is None else [f"runs do not say what their tuning job is after: {problem}"]
    )
    if settings.jobs.metric_series and not reads_metric_series(settings):
        notes.append(
            f"jobs.metric_series has no effect: target {settings.target.kind} has no place for them"
        )
    if clients.sagemaker_metrics is not None and home.account is not None:
        problem = await MetricSeriesReader(clients.sagemaker_metrics).probe(
            JobArn.of(home, PROBE_NAME).text
        )
        if problem is not None:
            notes.append(f"runs are written without metric series: {problem}")
    return tuple(notes)


def _account_advice(home: Home, queue: QueueName | None) -> Iterator[str]:
    if home.account is None:
        yield "the account is unknown: set aws.account_id, or let the daemon reach STS"
        return
    if not home.confirmed:
        yield "STS does not confirm aws.account_id: check that it is the account of the credentials"
    if queue is not None and queue.account != home.account:
        yield (
            f"the queue belongs to account {queue.account}, but jobs of account {home.account} are "
            "synced: is this intended? All other jobs are rejected"
        )


async def _checkpoint(settings: Settings) -> Finding:
    try:
        checkpoint = await open_checkpoint(settings.checkpoint, ANY_TARGET)
        try:
            await checkpoint.probe()
            rows = await checkpoint.row_counts()
            by_target = await checkpoint.job_counts()
        finally:
            await checkpoint.aclose()
    except DaemonError as fault:
        return Finding("checkpoint", ok=False, detail=str(fault))
    counts = ", ".join(f"{count} {state}" for state, count in rows.items() if count) or "empty"
    others = jobs_of_others(by_target, settings.target.target_place)
    return Finding(
        "checkpoint",
        ok=True,
        detail=f"{settings.checkpoint.path}: {counts}",
        notes=tuple(filter(None, (others, checkpoint_advice(settings.checkpoint)))),
    )


async def _target(settings: Settings) -> Finding:
    what = f"target {settings.target.kind}"
    kind = TARGET_KINDS[settings.target.kind]
    try:
        target = open_target(settings.target)
        try:
            await target.probe()
        finally:
            await target.aclose()
    except EdgeFault as fault:
        notes = await kind.diagnosis(settings.target)
        return Finding(what, ok=False, detail=fault.detail, notes=notes)
    except DaemonError as fault:
        return Finding(what, ok=False, detail=str(fault))
    notes = kind.advice(settings.target)
    return Finding(what, ok=True, detail=settings.target.address, notes=notes)
