"""Tests every dependency of the daemon by calls that change nothing, one finding at a time."""

from __future__ import annotations

import asyncio
import errno
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from daemon.aws.metric_series import MetricSeriesReader
from daemon.aws.queue import SqsQueue
from daemon.aws.queue_names import QueueName
from daemon.aws.queue_setup import QueueSetupReader
from daemon.aws.training_jobs import PROBE_NAME, SageMakerTrainingJobs, resolve_home
from daemon.aws.tuning_jobs import TuningJobs
from daemon.checkpoint.registry import (
    SCHEMA_VERSION,
    checkpoint_advice,
    jobs_of_others,
    open_checkpoint,
)
from daemon.clock import wall
from daemon.config.settings import DynamoDbSettings
from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused, SetupFault
from daemon.operations.check_table import table_findings
from daemon.operations.finding import Finding, Verdict
from daemon.operations.queue_advice import (
    DEAD_LETTERS,
    NO_REDRIVE_POLICY,
    QUEUE,
    clock_findings,
    encryption_findings,
    receives_findings,
    redrive_allow_findings,
    retention_findings,
    visibility_findings,
)
from daemon.reasons import Reason
from daemon.targets.place import ANY_TARGET
from daemon.targets.registry import PLUG_INS, TARGET_KINDS, plug_in_of
from daemon.training_job.identity import JobArn
from daemon.wiring import (
    jobs_elsewhere,
    open_configured_clients,
    open_configured_target,
    reads_metric_series,
    target_context,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from daemon.aws.clients import AwsClients
    from daemon.aws.ports import ListedJob, QueueState, TrainingJobs
    from daemon.config.settings import Settings
    from daemon.training_job.identity import Home

SAGEMAKER, CHECKPOINT, HTTP = "SageMaker", "checkpoint", "http"

NO_HANDLE = "modeldb-sync-check"
"""A receipt handle that cannot exist: the permission is tested, nothing is changed."""
SAMPLE_DAYS = 7
SAMPLE_JOBS = 20
"""Jobs whose tags are listed: as many calls of ListTags."""
LEAST_FREE_BYTES = 500_000_000

_NOT_ASKED = "cannot be tested without doing it"


async def check(settings: Settings) -> AsyncIterator[Finding]:
    """Tests the queue, its dead-letter queue, SageMaker, the clocks, the checkpoint, the target and
    the HTTP port. Never raises for what it finds.
    """
    async for finding in _aws(settings):
        yield finding
    for finding in await _checkpoint(settings):
        yield finding
    for finding in await target_findings(settings):
        yield finding
    for plug_in in PLUG_INS:
        if plug_in.fault:
            text = f"the plug-in {plug_in} {plug_in.fault}"
            yield Finding(f"target {plug_in.name}", Verdict.NOTE, text)
    for finding in await _http(settings):
        yield finding


# --- AWS ------------------------------------------------------------------------------------------


async def _aws(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with open_configured_clients(settings) as clients:
            findings, state = await _queue(settings, clients)
            for finding in findings:
                yield finding
            for finding in await _sagemaker(settings, clients, "" if state is None else state.arn):
                yield finding
            for where, jobs in jobs_elsewhere(clients, settings.aws.account_id).items():
                yield await _account(where, jobs)
    except (SetupFault, EdgeFault) as fault:
        for subject in (QUEUE, SAGEMAKER):
            yield _failed(subject, fault)


async def _queue(
    settings: Settings, clients: AwsClients
) -> tuple[Sequence[Finding], QueueState | None]:
    """The findings, and the queue's state if it told it."""
    url = settings.queue.url
    queue = SqsQueue(
        clients.sqs_polling, clients.sqs, url, dead_letter_url=settings.queue.dead_letter_url
    )
    try:
        state = await queue.state()
    except EdgeFault as fault:
        return [_failed(QUEUE, fault, "sqs:GetQueueAttributes")], None
    words = (
        f"{url} has {state.visible} visible, {state.in_flight} in flight, {state.delayed} delayed"
    )
    target = settings.target
    # a target that answers at once has no timeout
    write_seconds = getattr(target, "timeout_seconds", 0.0) + target.settle_seconds
    findings = [
        Finding(QUEUE, Verdict.OK, words, "sqs:GetQueueAttributes"),
        await _permission(QUEUE, "sqs:DeleteMessage", queue.delete([NO_HANDLE])),
        await _permission(QUEUE, "sqs:ChangeMessageVisibility", queue.hide([(NO_HANDLE, 0)])),
        _untested(QUEUE, "sqs:ReceiveMessage", "because a receive counts"),
        _untested(QUEUE, "sqs:SendMessage", "reconcile and backfill need it"),
        *visibility_findings(
            state.visibility_seconds, settings.queue.visibility_seconds, write_seconds
        ),
        *receives_findings(state.max_receive_count),
    ]
    findings += await _setup(clients, url, state, queue.dead_letter_problem)
    return findings, state


async def _setup(
    clients: AwsClients, url: str, state: QueueState, problem: str | None
) -> Sequence[Finding]:
    """The dead-letter queue, how both queues are set up, and AWS's clock."""
    letters_url = None if problem is not None else state.dead_letter_url
    try:
        own = await QueueSetupReader(clients.sqs, url).read()
    except EdgeFault as fault:
        return [_failed(QUEUE, fault, "sqs:GetQueueAttributes")]
    its = None
    if problem is not None:
        letters = [Finding(DEAD_LETTERS, Verdict.FAILED, problem, "sqs:GetQueueAttributes")]
    elif letters_url is None:
        letters = [Finding(DEAD_LETTERS, Verdict.WARNING, NO_REDRIVE_POLICY, "RedrivePolicy")]
    else:
        try:
            its = await QueueSetupReader(clients.sqs, letters_url).read()
        except EdgeFault as fault:
            letters = [_failed(DEAD_LETTERS, fault, "sqs:GetQueueAttributes")]
        else:
            words = f"{letters_url} has {state.dead_letter_messages} messages"
            letters = [
                Finding(DEAD_LETTERS, Verdict.OK, words, "sqs:GetQueueAttributes"),
                _untested(DEAD_LETTERS, "sqs:SendMessage", "rejected messages need it"),
                *redrive_allow_findings(state, its),
                *encryption_findings(DEAD_LETTERS, its),
            ]
    return [
        *encryption_findings(QUEUE, own),
        *letters,
        *retention_findings(own, its),
        *clock_findings("AWS", own.clock_ahead_seconds),
    ]


async def _sagemaker(settings: Settings, clients: AwsClients, queue_arn: str) -> Sequence[Finding]:
    try:
        home = await resolve_home(clients, settings.aws.account_id)
        jobs = SageMakerTrainingJobs(clients.sagemaker, home, listing=clients.sagemaker_listing)
        await jobs.probe()
    except DaemonError as fault:
        return [_failed(SAGEMAKER, fault, "sagemaker:DescribeTrainingJob")]
    words = f"account {home.account or 'unknown'} in {home.region}"
    listing, listed = await _listing(jobs)
    findings = [
        Finding(SAGEMAKER, Verdict.OK, words, "sagemaker:DescribeTrainingJob"),
        *_account_findings(home, QueueName.of_arn(queue_arn)),
        *await _tags_permission(jobs, home),
        listing,
        *await _tags_of(settings, jobs, listed),
    ]
    return findings + await _richer_record(settings, clients, home)


async def _account(where: str, jobs: TrainingJobs) -> Finding:
    """Whether the jobs of another account or region can be asked about."""
    account, _, region = where.partition("/")
    now = wall()
    action = "sagemaker:DescribeTrainingJob"
    try:
        await jobs.probe()
        action = "sagemaker:ListTags"
        with suppress(JobFault, JobRefused):
            await jobs.tags(JobArn.of(jobs.home, PROBE_NAME).text)
        action = "sagemaker:ListTrainingJobs"
        await jobs.list_page(created_after=now - 60, created_before=now)
    except EdgeFault as fault:
        if action == "sagemaker:ListTrainingJobs":
            text = f"{fault.detail}; until then, reconcile and backfill cannot find lost jobs"
            return Finding(SAGEMAKER, Verdict.WARNING, text, action)
        return _failed(SAGEMAKER, fault, action)
    text = f"account {account} in {region}: jobs can be described and listed, and their tags"
    return Finding(SAGEMAKER, Verdict.OK, text, f"accounts {where}")


async def _tags_permission(jobs: SageMakerTrainingJobs, home: Home) -> Sequence[Finding]:
    if home.account is None:
        return []
    arn = JobArn.of(home, PROBE_NAME).text
    return [await _permission(SAGEMAKER, "sagemaker:ListTags", jobs.tags(arn))]


async def _listing(jobs: SageMakerTrainingJobs) -> tuple[Finding, Sequence[ListedJob]]:
    """Whether jobs can be listed, and some of the last days."""
    action, now = "sagemaker:ListTrainingJobs", wall()
    try:
        page = await jobs.list_page(created_after=now - SAMPLE_DAYS * 86_400, created_before=now)
    except EdgeFault as fault:
        text = f"{fault.detail}; until then, reconcile and backfill cannot find lost jobs"
        throttled = fault.reason is Reason.THROTTLED
        return Finding(SAGEMAKER, Verdict.NOTE if throttled else Verdict.WARNING, text, action), ()
    return Finding(SAGEMAKER, Verdict.OK, f"{action} is allowed", action), page.jobs


async def _tags_of(
    settings: Settings, jobs: SageMakerTrainingJobs, listed: Sequence[ListedJob]
) -> Sequence[Finding]:
    """How many of some recent jobs have the sync tag: none may mean a wrong key."""
    key = settings.jobs.tag_keys.sync
    wanted = [job for job in listed if job.status in settings.jobs.statuses][-SAMPLE_JOBS:]
    looked_at = with_tag = 0
    for job in reversed(wanted):
        try:
            tags = await jobs.tags(job.arn)
        except JobRefused:
            continue
        except (EdgeFault, JobFault):
            break
        looked_at += 1
        with_tag += key in tags
    if not looked_at:
        return []
    text = (
        f"{with_tag} of {looked_at} finished jobs of the last {SAMPLE_DAYS} days have the tag {key}"
    )
    if not with_tag:
        text += ": only jobs with this tag are synced; is jobs.tag_keys.sync right?"
    return [Finding(SAGEMAKER, Verdict.NOTE, text, "jobs.tag_keys.sync")]


async def _richer_record(settings: Settings, clients: AwsClients, home: Home) -> list[Finding]:
    """Tests what runs can do without."""
    findings = []
    problem = await TuningJobs(clients.sagemaker).probe()
    if problem is not None:
        findings.append(
            Finding(
                SAGEMAKER,
                Verdict.WARNING,
                f"runs do not say what their tuning job is after: {problem}",
                "sagemaker:DescribeHyperParameterTuningJob",
            )
        )
    if settings.jobs.metric_series and not reads_metric_series(settings):
        text = (
            f"jobs.metric_series has no effect: target {settings.target.kind} has no place for them"
        )
        findings.append(Finding(SAGEMAKER, Verdict.NOTE, text, "jobs.metric_series"))
    if clients.sagemaker_metrics is not None and home.account is not None:
        problem = await MetricSeriesReader(clients.sagemaker_metrics).probe(
            JobArn.of(home, PROBE_NAME).text
        )
        if problem is not None:
            findings.append(
                Finding(
                    SAGEMAKER,
                    Verdict.WARNING,
                    f"runs are written without metric series: {problem}",
                    "sagemaker:BatchGetMetrics",
                )
            )
    return findings


def _account_findings(home: Home, queue: QueueName | None) -> Sequence[Finding]:
    def warning(text: str) -> Finding:
        return Finding(SAGEMAKER, Verdict.WARNING, text, "aws.account_id")

    if home.account is None:
        return [warning("the account is unknown: set aws.account_id, or let the daemon reach STS")]
    findings = []
    if not home.confirmed:
        findings.append(
            warning(
                "STS does not confirm aws.account_id: check that it is the account of the "
                "credentials"
            )
        )
    if queue is not None and queue.account != home.account:
        findings.append(
            warning(
                f"the queue belongs to account {queue.account}, but jobs of account {home.account} "
                "are synced: is this intended? All other jobs are rejected"
            )
        )
    return findings


async def _permission(subject: str, action: str, call: Awaitable[object]) -> Finding:
    """Makes a call about something that does not exist: all but a fault of the edge is fine."""
    try:
        await call
    except EdgeFault as fault:
        return _failed(subject, fault, action)
    except (JobFault, JobRefused):
        pass
    return Finding(subject, Verdict.OK, f"{action} is allowed", action)


def _untested(subject: str, action: str, why: str) -> Finding:
    return Finding(subject, Verdict.NOTE, f"{action} {_NOT_ASKED} ({why})", action)


def _failed(subject: str, fault: DaemonError, about: str = "") -> Finding:
    detail = fault.detail if isinstance(fault, EdgeFault) else str(fault)
    return Finding(subject, Verdict.FAILED, detail, about)


# --- the others -----------------------------------------------------------------------------------


async def _checkpoint(settings: Settings) -> Sequence[Finding]:
    section = settings.checkpoint
    if isinstance(section, DynamoDbSettings):
        return await table_findings(section)
    try:
        checkpoint = await open_checkpoint(section, ANY_TARGET)
        try:
            await checkpoint.probe()
            rows = await checkpoint.row_counts()
            by_target = await checkpoint.job_counts()
        finally:
            await checkpoint.aclose()
    except DaemonError as fault:
        return [_failed(CHECKPOINT, fault)]
    counts = ", ".join(f"{count} {state}" for state, count in rows.items() if count) or "empty"
    path = section.path
    findings = [
        Finding(CHECKPOINT, Verdict.OK, f"{path}: {counts} (schema version {SCHEMA_VERSION})")
    ]
    free = shutil.disk_usage(path.parent).free
    if free < LEAST_FREE_BYTES:
        text = (
            f"{free / 1e6:.0f} MB are free on the disk of {path}: when it is full, no message is "
            "received; make room"
        )
        findings.append(Finding(CHECKPOINT, Verdict.WARNING, text, "checkpoint.path"))
    others = jobs_of_others(by_target, settings.target.target_place)
    notes = filter(None, (others, checkpoint_advice(section)))
    return [*findings, *(Finding(CHECKPOINT, Verdict.NOTE, note) for note in notes)]


async def target_findings(settings: Settings) -> Sequence[Finding]:
    """Tests the target alone. Never raises for what it finds."""
    plug_in = plug_in_of(settings.target.kind)
    try:
        return await _target(settings)
    except Exception as error:
        if plug_in is None:
            raise
        subject = f"target {settings.target.kind}"
        return [Finding(subject, Verdict.FAILED, plug_in.failure(error))]


async def _target(settings: Settings) -> Sequence[Finding]:
    subject = f"target {settings.target.kind}"
    kind = TARGET_KINDS[settings.target.kind]
    try:
        target = open_configured_target(settings)
        try:
            await target.probe()
        finally:
            await target.aclose()
    except EdgeFault as fault:
        notes = await kind.diagnosis(settings.target)
        return [
            _failed(subject, fault),
            *(Finding(subject, Verdict.NOTE, note) for note in notes),
        ]
    except DaemonError as fault:
        return [_failed(subject, fault)]
    plug_in = plug_in_of(settings.target.kind)
    told = [f"plug-in {plug_in.package} {plug_in.version}"] if plug_in is not None else []
    facts = await kind.server_facts(settings.target, target_context(settings))
    told += [version] if (version := facts.version or kind.version) else []
    about = f" ({'; '.join(told)})" if told else ""
    ahead = facts.clock_ahead_seconds
    if ahead is None:
        ahead = await kind.clock_ahead(settings.target)
    notes = (*facts.notes, *kind.advice(settings.target))
    return [
        Finding(subject, Verdict.OK, f"{settings.target.address}{about}"),
        *clock_findings(settings.target.target_place.system, ahead),
        *(Finding(subject, Verdict.NOTE, note) for note in notes),
    ]


async def _http(settings: Settings) -> Sequence[Finding]:
    """Whether the daemon could listen, or does."""
    host, port = settings.http.host, settings.http.port
    if not port:
        return [Finding(HTTP, Verdict.OK, "any free port", "http.port")]
    try:
        server = await asyncio.start_server(lambda _reader, _writer: None, host, port)
        server.close()
        await server.wait_closed()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = (
                f"port {port} is in use: by the running daemon, or by another program, and then "
                "set http.port"
            )
            return [Finding(HTTP, Verdict.NOTE, text, "http.port")]
        text = f"cannot listen on {host}, port {port} ({error.strerror}): set http.host, http.port"
        return [Finding(HTTP, Verdict.FAILED, text, "http.host")]
    return [Finding(HTTP, Verdict.OK, f"port {port} is free", "http.port")]
