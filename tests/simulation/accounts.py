"""Histories with a second account whose role is denied for a while: its jobs wait, those of the
first account do not, and no receive is used up.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.jobs import MEMBER
from tests.simulation.plans import Check, Shape, plain_job

if TYPE_CHECKING:
    import random

    from tests.simulation.plans import Plan, PlannedJob
    from tests.simulation.world import World

KIND = "accounts"
DENIED_CALLS = ("DescribeTrainingJob", "ListTags", "ListTrainingJobs")
SHORT, LONG = 240.0, 3900.0
"""How long the role is denied, in seconds. The long one exceeds an hour."""
BACK_SECONDS = 200.0
"""After that the histories go on without faults for as long."""
LONGEST_INTAKE = 25.0
SOON = 60.0
"""So long after its event a job of the first account is recorded."""


def accounts(draft: Plan, chance: random.Random) -> Plan:
    """Most jobs are of the account that is denied, three times as many as fill a daemon."""
    begins = chance.choice([-1.0, chance.uniform(1, 30)])
    seconds = LONG if chance.random() < 0.2 else SHORT
    own = [plain_job(chance, n, chance.uniform(5, seconds)) for n in range(chance.randint(3, 7))]
    members = [
        _of_member(plain_job(chance, 100 + number, chance.uniform(0.1, seconds)), chance)
        for number in range(chance.randint(12, 20))
    ]
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2]),
        jobs=[*own, *members],
        chaos=((begins, "account_denied"), (max(begins, 0.0) + seconds, "account_allowed")),
        horizon=max(begins, 0.0) + seconds + BACK_SECONDS,
        shape=Shape(accounts=True),
        checks=frozenset({Check.NO_RECEIVE_USED_UP, Check.NO_OWN_FAULT, Check.PROMPT_INTAKE}),
        longest_intake=LONGEST_INTAKE,
    )


def _of_member(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    job = replace(planned.job, account=MEMBER)
    if chance.random() < 0.5:
        job = replace(job, event_tags=None)
    return replace(planned, job=job)


async def account_denied(world: World, _chance: random.Random) -> None:
    """The role of the second account is denied until further notice."""
    world.members[MEMBER].faults.denied.update(DENIED_CALLS)


async def account_allowed(world: World, _chance: random.Random) -> None:
    """It is allowed again. Until now nothing came of its jobs, and everything of the others."""
    now = world.loop.time()
    for message in world.queue.messages:
        outcomes = world.outcomes.get(message.message_id, [])
        synced = any(outcome == "synced" for outcome, _ in outcomes)
        if MEMBER in message.body:
            # what was described before it was denied may be recorded
            continue
        if not synced and now - message.life[0][0] > SOON:
            world.wrong(
                f"a job waits for another account: {message.message_id} was sent "
                f"{now - message.life[0][0]:.0f} s ago, and had {outcomes}"
            )
    world.members[MEMBER].faults.denied.clear()
    await asyncio.sleep(0)
