"""Histories in which the events of some jobs are lost: reconcile must find each of them, whatever
happens to the daemons meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.loop import START
from tests.simulation.plans import Form, PlannedJob, Shape, plain_job

if TYPE_CHECKING:
    import random

    from tests.simulation.plans import Plan

FAULTS = (
    *("kill", "kill", "sigterm", "cancel", "clock_jump", "disk_full", "target_down"),
    *("aws_weather", "queue_down", "sagemaker_down", "lists_fail", "lists_fail"),
    *("sends_fail", "sends_fail", "sends_fail"),
)
_FIRST_PASS_SECONDS = 15.0
"""From the start of the daemons to the first pass, or a little more."""


def lost_events(draft: Plan, chance: random.Random) -> Plan:
    """Jobs that run for minutes or hours; the events of more than half of them are lost, and some
    of those come late.
    """
    horizon = chance.uniform(300, 900)
    jobs = [_job(chance, number, horizon) for number in range(chance.randint(4, 10))]
    jobs[0] = replace(jobs[0], told=False)
    faults = [
        (chance.choice([_FIRST_PASS_SECONDS * chance.random(), chance.uniform(0, horizon)]), name)
        for name in chance.choices(FAULTS, k=chance.randint(1, 5))
    ]
    return replace(
        draft,
        replicas=chance.choice([1, 2, 3]),
        jobs=jobs,
        chaos=sorted(faults),
        horizon=horizon,
        shape=Shape(reconcile=True),
    )


def _job(chance: random.Random, number: int, horizon: float) -> PlannedJob:
    at = chance.uniform(0.01, horizon * 0.9)
    planned = plain_job(chance, number, at)
    seconds = chance.choice([chance.uniform(60, 900), chance.uniform(3600, 20_000)])
    created = START + at - chance.uniform(0.1, 2) - seconds
    silent = chance.random() < 0.6
    late = silent and chance.random() < 0.3
    return replace(
        planned,
        job=replace(planned.job, seconds=seconds, created=created),
        runs_from=max(-1.0, at - seconds),
        told=not silent,
        later=((horizon + chance.uniform(600, 3000), Form.EVENT),) if late else (),
    )
