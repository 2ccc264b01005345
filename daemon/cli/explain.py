"""``explain``: everything known of one job, and what would become of it now."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.aws.training_jobs import resolve_home
from daemon.checkpoint.registry import open_story_reader
from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.errors import DaemonError, EdgeFault
from daemon.observability.logs import configure_logging, printable
from daemon.operations.explain import (
    Explanation,
    answer,
    as_document,
    job_event,
    problem_of,
    sagemaker_facts,
    unknown,
)
from daemon.operations.job_now import job_now
from daemon.operations.job_story import moments, read_stories
from daemon.operations.verdict import verdict
from daemon.targets.place import ANY_TARGET, TargetPlace
from daemon.wiring import (
    flow_rules,
    open_configured_clients,
    open_configured_target,
    training_jobs,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from daemon.config.settings import Settings
    from daemon.training_job.event import TrainingJobEvent

TARGET_SECONDS = 45.0
"""For the look-up in the target."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "explain",
        summary="say why a job is, or is not, in the target",
        description="Tells everything that is known of one training job, in order: what was "
        "received, decided and written, what SageMaker says of it now, whether the target has its "
        "run, and what the daemon would do with it. Only reads. Whatever does not answer is said, "
        "and the rest is shown. Exit status: 0 if something is known of the job, 1 if not.",
        examples=[
            ("explain churn-xgb-2025-11-20", "the answer, the next step, and the story"),
            ("explain churn-xgb-2025-11-20 --json", "the same for a program"),
        ],
    )
    parser.add_argument("job", metavar="JOB", help="the job's name or ARN")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--no-target", action="store_true", help="do not ask the target whether it has the run"
    )
    add_config_option(parser)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    event = job_event(arguments.job)
    settings = settings_of(arguments)
    configure_logging("error", "console")
    found = asyncio.run(explained(settings, event, ask_target=not arguments.no_target))
    if not found.known:
        raise DaemonError(unknown(found))
    if arguments.json:
        print(json.dumps(as_document(found), indent=2))
    else:
        for line in _lines(found, settings.target.target_place.system):
            print(printable(line))
    return 0


async def explained(
    settings: Settings, event: TrainingJobEvent, *, ask_target: bool = True
) -> Explanation:
    """Asks SageMaker, the checkpoint and the target. Whatever fails is said in the answer."""
    found = await _with_sagemaker(settings, Explanation(event, flow_rules(settings)))
    found = await _with_checkpoint(settings, found)
    if found.now is not None:
        described = [row for row in found.rows if row.creation_time]
        now = replace(found.now, rows=described)
        found = replace(found, now=now, verdict=verdict(event, now, found.rules))
    return await _with_target(settings, found) if ask_target else found


async def _with_sagemaker(settings: Settings, found: Explanation) -> Explanation:
    try:
        async with open_configured_clients(settings) as clients:
            home = await resolve_home(clients, settings.aws.account_id)
            now = await job_now(found.event, home, training_jobs(settings, clients, home))
    except DaemonError as fault:
        return replace(found, sagemaker_problem=problem_of(fault))
    problem = problem_of(now.fault) if isinstance(now.fault, EdgeFault) else ""
    return replace(found, now=now, sagemaker_problem=problem)


async def _with_checkpoint(settings: Settings, found: Explanation) -> Explanation:
    target = settings.target.target_place
    arns = [found.arn] if found.arn else []
    if not arns and found.now is not None:
        arn = found.now.arn_of(found.event)
        arns = [] if arn is None else [arn.key]
    asked = found.event.name if found.event.arn is None else found.event.arn.text
    try:
        async with (
            open_story_reader(settings.checkpoint, target) as reader,
            open_story_reader(settings.checkpoint, ANY_TARGET) as of_all,
        ):
            stories = await read_stories(reader, asked, arns=arns)
            every = await of_all.jobs_named(asked)
    except DaemonError as fault:
        return replace(found, checkpoint_problem=problem_of(fault))
    # of several accounts or regions that one checkpoint is used for, the one that was asked about
    story = next((each for each in stories if each.known), None)
    return replace(
        found,
        story=story,
        elsewhere=[
            row for row in every if row.place and TargetPlace(row.target, row.place) != target
        ],
    )


async def _with_target(settings: Settings, found: Explanation) -> Explanation:
    mark = found.mark
    if mark is None:
        return found
    try:
        async with contextlib.AsyncExitStack() as closing:
            target = open_configured_target(settings)
            closing.push_async_callback(target.aclose)
            async with asyncio.timeout(TARGET_SECONDS):
                run = await target.find(mark)
    except DaemonError as fault:
        return replace(found, target_problem=problem_of(fault))
    except TimeoutError:
        return replace(found, target_problem=f"no answer within {TARGET_SECONDS:g} s")
    return replace(found, run=run, target_asked=True)


def _lines(found: Explanation, system: str) -> Iterator[str]:
    """The answer for people; `system` is what they call the target."""
    said = answer(found)
    yield found.arn or found.event.name
    yield f"  why   {said.why}"
    yield f"  next  {said.next_step}"
    yield from _story(found)
    yield from _records(found)
    yield from _sagemaker(found)
    yield from _target(found, system)


def _story(found: Explanation) -> Iterator[str]:
    yield ""
    yield "Story (UTC)"
    if found.checkpoint_problem:
        yield f"  not known: {found.checkpoint_problem}"
        return
    told = [] if found.story is None else moments(found.story)
    if not told:
        yield "  the checkpoint has nothing of it"
    for moment in told:
        about = ", ".join(
            filter(
                None,
                [
                    f"message {moment.message_id}" if moment.message_id else "",
                    f"process {moment.owner}" if moment.owner else "",
                ],
            )
        )
        yield f"  {_when(moment.at)}  {moment.text}" + (f"  [{about}]" if about else "")


def _records(found: Explanation) -> Iterator[str]:
    rows = [*found.rows, *found.elsewhere]
    if rows:
        yield ""
        yield "Recorded"
    for row in rows:
        created = f"job created {row.creation_time}" if row.creation_time else "never described"
        words = f"{row.state} ({row.reason})" if row.reason else str(row.state)
        ids = ", ".join(f"{word} {value}" for word, value in row.target_ids.items())
        project = (
            f"project {row.project}" if row.project and "project" not in row.target_ids else ""
        )
        where = f"in {TargetPlace(row.target, row.place)}" if row in found.elsewhere else ""
        yield f"  {_when(row.updated_at)}  " + ", ".join(
            filter(None, [created, words, row.detail, project, ids, where])
        )


def _sagemaker(found: Explanation) -> Iterator[str]:
    yield ""
    yield "SageMaker now"
    facts = sagemaker_facts(found)
    if found.sagemaker_problem:
        yield f"  could not be asked: {found.sagemaker_problem}"
    if facts is None:
        if not found.sagemaker_problem:
            yield "  does not know the job"
        return
    yield f"  {facts['status']}, created {facts['created_at']}" + (
        f", ended {facts['ended_at']}" if facts["ended_at"] else ""
    )
    key = found.rules.tag_keys.sync
    if facts["sync_tag"] is not None:
        yield f"  {'has' if facts['sync_tag'] else 'does not have'} the tag {key}" + (
            f"; lacks {', '.join(facts['missing_tags'])}" if facts["missing_tags"] else ""
        )
    if found.verdict is not None and found.verdict.outcome:
        reason = f" ({found.verdict.reason})" if found.verdict.reason is not None else ""
        yield f"  a message about it now would be: {found.verdict.outcome}{reason}"


def _target(found: Explanation, system: str) -> Iterator[str]:
    yield ""
    yield f"{system} now"
    if found.target_problem:
        yield f"  could not be asked: {found.target_problem}"
    elif not found.target_asked:
        yield "  not asked"
    elif found.run is None:
        yield "  has no run of this job"
    else:
        ids = ", ".join(f"{word} {value}" for word, value in found.run.ids.items())
        yield f"  has its run: {ids}"


def _when(epoch_seconds: float) -> str:
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%S}"
