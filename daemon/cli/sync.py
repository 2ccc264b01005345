"""``sync``: takes one training job through the flow now, or shows what would be written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

from daemon.aws.errors import unobserved
from daemon.checkpoint.registry import checkpoint_is_missing, open_checkpoint
from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.cli.signals import first_signal
from daemon.clock import monotonic
from daemon.errors import EdgeFault, SetupFault
from daemon.intake.in_flight import InFlight
from daemon.observability.logs import configure_logging, printable
from daemon.operations.dry_run import dry_run
from daemon.operations.hand_over import HandOver
from daemon.operations.sync_one import (
    PATIENCE_SECONDS,
    PAUSE_SECONDS,
    JobName,
    SyncOne,
    SyncResult,
    renew_claims,
)
from daemon.pipeline.flow import Flow
from daemon.targets.place import ANY_TARGET
from daemon.wiring import ConfiguredParts, flow_rules

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.config.settings import Settings
    from daemon.operations.dry_run import DryRun

INTERRUPTED = 128 + signal.SIGINT


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "sync",
        summary="sync one training job now",
        description="Takes one training job from SageMaker to the target now, as the daemon would "
        "if its event arrived: each job once, beside a running daemon, with the same checkpoint. "
        "Prints what became of it. Exit status: 0 if its run is in the target, 1 if not, 2 for a "
        "usage or configuration error, 130 if interrupted.",
        examples=[
            ("sync churn-2026-11-28-09-15", "syncs the job of this name"),
            ("sync --dry-run churn-2026-11-28-09-15", "shows what would be written"),
            (
                "sync --force churn-2026-11-28-09-15",
                "reads the job again and repairs its run, for example after its tags changed",
            ),
            ("sync --json churn-2026-11-28-09-15 | jq .target_ids", "the ids of its run"),
        ],
    )
    add_config_option(parser)
    parser.add_argument(
        "job", metavar="JOB", help="the job's name, or its ARN: a name is of the daemon's account"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="bring the run of a job that is synced already up to date: only what this program "
        "wrote, and never a second run",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and change nothing"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the target, SageMaker or another process that works on the job "
        "(default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    wanted = JobName.parse(arguments.job)
    settings = settings_of(arguments)
    configure_logging("error", "console")
    if arguments.dry_run:
        return asyncio.run(_dry_run(settings, wanted, arguments))
    if settings.target.single_writer is not None:
        return asyncio.run(_hand_over(settings, wanted, arguments))
    return asyncio.run(_sync(settings, wanted, arguments))


async def _sync(settings: Settings, wanted: JobName, arguments: argparse.Namespace) -> int:
    parts = ConfiguredParts(settings)
    rules = flow_rules(settings)
    in_flight = InFlight()
    async with contextlib.AsyncExitStack() as closing:
        checkpoint = await _shared_checkpoint(settings)
        closing.push_async_callback(checkpoint.aclose)
        target = parts.target(_unobserved, None)
        closing.push_async_callback(target.aclose)
        say = _say_once()
        jobs = await closing.enter_async_context(_training_jobs(parts, arguments.wait, say))
        one = SyncOne(
            Flow(jobs, checkpoint, target, in_flight, rules),
            jobs,
            checkpoint,
            in_flight,
            patience_seconds=arguments.wait,
            say=say,
        )

        def end() -> None:
            """As the daemon's stop does: a write under way has the grace time."""
            print("interrupted: a write under way is finished first", file=sys.stderr)
            one.stop()
            asyncio.get_running_loop().call_later(settings.shutdown.grace_seconds, one.abandon)

        closing.enter_context(first_signal(end))
        renewing = asyncio.create_task(renew_claims(checkpoint, in_flight, rules.lease_seconds))
        try:
            result = await one.sync(wanted, force=arguments.force)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
    return _shown(result, arguments)


async def _shared_checkpoint(settings: Settings) -> Checkpoint:
    """The daemon's checkpoint. A new one would not know of the daemon's claims, and so might make a
    second run.
    """
    return await open_checkpoint(settings.checkpoint, settings.target.target_place, create=False)


def _shown(result: SyncResult, arguments: argparse.Namespace) -> int:
    """Prints a result, for people on standard error if the job was not synced. Returns the exit
    status.
    """
    if arguments.json:
        print(json.dumps(result.as_document()))
    else:
        for line in _lines(result):
            print(printable(line), file=sys.stdout if result.succeeded else sys.stderr)
    if result.outcome == "interrupted":
        return INTERRUPTED
    return 0 if result.succeeded else 1


async def _hand_over(settings: Settings, wanted: JobName, arguments: argparse.Namespace) -> int:
    """As `_sync`, by the running daemon, which alone writes to this kind of target."""
    job = wanted.name if wanted.arn is None else wanted.arn.text
    checkpoint = await _shared_checkpoint(settings)
    try:
        hand_over = HandOver(checkpoint, say=_say_once(), patience_seconds=arguments.wait)
        handing = asyncio.ensure_future(hand_over.sync(job, force=arguments.force))
        with first_signal(handing.cancel):
            await asyncio.wait([handing])
    finally:
        await checkpoint.aclose()
    return INTERRUPTED if handing.cancelled() else _shown(handing.result(), arguments)


@contextlib.asynccontextmanager
async def _training_jobs(
    parts: ConfiguredParts, wait_seconds: float, say: Callable[[str], None]
) -> AsyncIterator[TrainingJobs]:
    """SageMaker's jobs, with their account known as far as it can be. Waits for credentials, and
    says so.
    """
    until = monotonic() + wait_seconds
    async with contextlib.AsyncExitStack() as opened:
        while True:
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    _, jobs = await attempt.enter_async_context(parts.aws(unobserved))
                    await jobs.probe()
                    await opened.enter_async_context(attempt.pop_all())
                break
            except EdgeFault as fault:
                if not fault.curable:
                    raise SetupFault(fault.detail) from fault
                if monotonic() >= until:
                    raise
                say(f"waiting for SageMaker: {fault.detail}")
            await asyncio.sleep(min(PAUSE_SECONDS, max(0.0, until - monotonic())))
        yield jobs


def _unobserved(_operation: str, _result: str) -> None: ...


class _say_once:  # noqa: N801 - used as a function
    """Says each sentence once, on standard error."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            print(printable(sentence), file=sys.stderr, flush=True)


def _lines(result: SyncResult) -> Iterator[str]:
    yield result.text
    for word, value in (result.target_ids or {}).items():
        yield f"  {word.replace('_', ' ')}: {value}"
    yield from (f"  repaired: {each}" for each in result.changed)
    yield from (f"  stays: {each}" for each in result.unchangeable)
    yield from (f"  note: {each}" for each in result.notes)
    if result.next_step:
        yield f"  next: {result.next_step}"


# --- what would be written --------------------------------------------------------------------


async def _dry_run(settings: Settings, wanted: JobName, arguments: argparse.Namespace) -> int:
    parts = ConfiguredParts(settings)
    async with contextlib.AsyncExitStack() as closing:
        recorded = await _recorded(settings, wanted)
        target = parts.target(_unobserved, None)
        closing.push_async_callback(target.aclose)
        jobs = await closing.enter_async_context(_training_jobs(parts, arguments.wait, _say_once()))
        answer = await dry_run(
            wanted,
            jobs,
            target,
            flow_rules(settings),
            recorded,
            force=arguments.force,
        )
    if arguments.json:
        print(json.dumps(answer.as_document()))
    else:
        for line in _dry_lines(answer):
            print(printable(line))
    return 0 if answer.outcome in {"synced", "duplicate"} and not answer.fault else 1


async def _recorded(settings: Settings, wanted: JobName) -> Sequence[JobRecord]:
    """The checkpoint's rows of the job's name, without changing the checkpoint."""
    if checkpoint_is_missing(settings.checkpoint):
        return ()
    checkpoint = await open_checkpoint(settings.checkpoint, ANY_TARGET, create=False)
    try:
        rows = await checkpoint.jobs_named(wanted.name)
    finally:
        await checkpoint.aclose()
    place = settings.target.target_place
    return [row for row in rows if (row.target, row.place) == (place.kind, place.place)]


def _dry_lines(answer: DryRun) -> Iterator[str]:
    yield answer.text
    if answer.fault:
        yield f"  {answer.fault}"
    if answer.found is not None:
        yield from (f"  differs: {each}" for each in answer.found.changed)
        yield from (f"  stays: {each}" for each in answer.found.unchangeable)
    if answer.preview is not None:
        yield from _tables(answer.preview.sections)
    if answer.next_step:
        yield f"  next: {answer.next_step}"


def _tables(sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> Iterator[str]:
    for heading, rows in sections:
        yield ""
        yield heading.upper()
        width = max(len(key) for key, _ in rows)
        for key, value in rows:
            first, *others = value.split("\n")
            yield f"  {key.ljust(width)}  {first}".rstrip()
            yield from (f"  {' ' * width}  {line}".rstrip() for line in others)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds
