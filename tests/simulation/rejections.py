"""Messages that must be rejected, and whether each of them ended where a person finds it: in the
dead-letter queue with its reason, or in the checkpoint where there is no such queue.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.reasons import Reason

if TYPE_CHECKING:
    from tests.simulation.plans import Plan, PlannedJob
    from tests.simulation.sqs_message import SimulatedMessage
    from tests.simulation.world import Place, World


@dataclass(frozen=True, slots=True)
class Poison:
    """A body that is to be rejected."""

    body: str
    reason: Reason = Reason.MALFORMED_BODY


def _state_change(detail: object) -> str:
    return json.dumps(
        {
            "detail-type": "SageMaker Training Job State Change",
            "source": "aws.sagemaker",
            "detail": detail,
        }
    )


POISON = (
    Poison("{this is no event"),
    Poison("plain words"),
    Poison('"a text"'),
    Poison("null"),
    Poison("[]"),
    Poison("{}"),
    Poison(_state_change({"TrainingJobStatus": "Completed"})),
    Poison(_state_change({"TrainingJobName": "no name", "TrainingJobStatus": "Completed"})),
    Poison(_state_change('{"TrainingJobName": "half')),
    Poison('{"TrainingJobName": "two words"}'),
    Poison(
        '{"TrainingJobArn": "arn:aws:sagemaker:eu-west-1:999999999999:training-job/foreign"}',
        Reason.FOREIGN_ACCOUNT,
    ),
)
GONE = frozenset({Reason.JOB_GONE.value, Reason.JOB_REPLACED.value})


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected message where a person finds it."""

    where: str
    body: str
    reason: str
    detail: str


def rejections(world: World, place: Place) -> list[Rejection]:
    """All of a place's, in the order in which they were found."""
    if place.dead_letters is not None:
        return [
            Rejection(
                letter.message_id,
                letter.body,
                letter.texts.get("reason", ""),
                letter.texts.get("detail", ""),
            )
            for letter in place.dead_letters.contents()
        ]
    return [
        Rejection(f"the checkpoint ({row[0]})", row[1], row[2], row[3])
        for row in kept_messages(world)
    ]


def kept_messages(world: World) -> list[tuple[str, str, str, str]]:
    """Id, body, reason and detail of the messages whose body the checkpoint keeps."""
    if world.hosts is not None:
        return world.hosts.kept_messages()
    if not world.checkpoint.exists():
        return []
    with closing(sqlite3.connect(world.checkpoint)) as connection:
        return connection.execute(
            "SELECT message_id, body, reason, detail FROM rejected_messages "
            "WHERE body IS NOT NULL ORDER BY rejected_at, message_id"
        ).fetchall()


def verify_rejections(world: World, place: Place, plan: Plan) -> None:
    """Only what is itself at fault is rejected, and nothing rejected is lost."""
    found = rejections(world, place)
    reasons = {reason.value for reason in Reason}
    for each in found:
        if each.reason not in reasons:
            world.wrong(f"{each.where} is rejected without a reason of ours ({each.reason!r})")
    if place.dead_letters is not None:
        for message_id, *_ in kept_messages(world):
            if any(message.message_id == message_id for message in place.queue.messages):
                world.wrong(
                    f"{message_id} is kept in the checkpoint alone, although there is a "
                    "dead-letter queue"
                )
    forgotten = place.dead_letters is None and plan.suffers(*FORGETTING)
    if not forgotten:
        _verify_all_found(world, place, plan, found)
    for planned in plan.jobs:
        _verify_job(world, place, plan, planned, found, forgotten=forgotten)


FORGETTING = ("checkpoint_deleted", "a_day_later", "backup_put_back")
"""Faults with which the checkpoint loses what it keeps."""


def _verify_all_found(world: World, place: Place, plan: Plan, found: list[Rejection]) -> None:
    """Each message that can only be rejected is there with its reason."""
    wanted = {poison.body: poison.reason.value for _, poison in plan.poison}
    wanted |= {
        planned.job.event: Reason.TAGS_INCOMPLETE.value
        for planned in plan.jobs
        if planned.job.is_half_tagged and planned.lasts and not _used_again(plan, planned)
    }
    sent = Counter(message.body for message in place.queue.messages)
    there = Counter((each.body, each.reason) for each in found)
    for body, reason in wanted.items():
        if there[body, reason] < sent[body]:
            world.wrong(
                f"message lost: {sent[body]} were to be rejected as {reason}, and "
                f"{there[body, reason]} can be found: {body[:160]}"
            )


def _verify_job(
    world: World,
    place: Place,
    plan: Plan,
    planned: PlannedJob,
    found: list[Rejection],
    *,
    forgotten: bool,
) -> None:
    job = planned.job
    if job.run is None or _used_again(plan, planned):
        return
    dead = [each for each in found if each.body == job.event]
    # a backfill sends the job again, and leaves its dead letter where it is
    was_at_fault = planned.tagged_at is not None and plan.suffers("backfill")
    if planned.lasts and dead and not was_at_fault:
        world.wrong(
            f"{job.name} is rejected ({dead[0].reason or 'by the redrive policy'}), and nothing is "
            "wrong with it"
        )
    if not planned.lasts and not forgotten and not place.has(job.run) and not dead:
        world.wrong(f"{job.name} is neither in the target nor among the rejected messages")


def _used_again(plan: Plan, planned: PlannedJob) -> bool:
    return sum(other.job.name == planned.job.name for other in plan.jobs) > 1


_LETS_GO = {"synced", "duplicate", "skipped", "rejected"}


def verify_outcomes(world: World, place: Place, plan: Plan) -> None:
    """Each message that has left the queue had an outcome that allows it."""
    poison = {each.body for _, each in plan.poison}
    jobs: dict[str, list[PlannedJob]] = {}
    for planned in plan.jobs:
        jobs.setdefault(planned.job.event, []).append(planned)
    for message in place.queue.messages:
        if not all(copy.deleted for copy in message.copies):
            continue
        had = [each for each in world.outcomes.get(message.message_id, ()) if each[0] in _LETS_GO]
        if message.body in poison:
            allowed = {"rejected"}
        elif message.body in jobs:
            allowed = _allowed(jobs[message.body][0])
        else:
            allowed = _LETS_GO
        if not any(outcome in allowed for outcome, _ in had):
            said = ", ".join(f"{outcome} {reason}" for outcome, reason in had) or "no outcome"
            world.wrong(
                f"message lost: {message.message_id} left the queue with {said}: "
                f"{message.body[:160]}"
            )


def _allowed(planned: PlannedJob) -> set[str]:
    """Outcomes with which a message about a job may leave the queue."""
    if planned.job.run is not None:
        may_be_rejected = not planned.lasts or planned.tagged_at is not None
        return {"synced", "duplicate"} | ({"rejected"} if may_be_rejected else set())
    if planned.job.is_half_tagged:
        return {"rejected"}
    return {"skipped", "rejected"}


def letter_of_gone_job(letter: Rejection | SimulatedMessage) -> str:
    """The name of the job that a rejected event is about."""
    name: str = json.loads(letter.body)["detail"]["TrainingJobName"]
    return name
