"""The kinds of histories with several hosts and one checkpoint in DynamoDB. They are no part of the
default mix: `python -m tests.simulation histories --checkpoint dynamodb`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.chaos import CHAOS, OUTAGES
from tests.simulation.hosts_chaos import HOSTS_CHAOS
from tests.simulation.lost_events import lost_events
from tests.simulation.plans import Check, PlannedJob, plain_job, plain_jobs, some_jobs, some_poison

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.plans import Plan

_OF_ONE_HOST = (
    "disk_full",
    "disk_lies",
    "disk_slow",
    "disk_hangs",
    "checkpoint_deleted",
    # of all hosts at once
    "clock_jump",
)
_FAULTS = [name for name in CHAOS if name not in _OF_ONE_HOST]
_PAUSES = ["pause", "pause_at_work"]
_OF_THE_TABLE = ["table_down", "table_throttles", "table_weather", "table_slow"]
_REPLICAS = (3, 3, 3, 2, 4)


def hosts_plan(draft: Plan, chance: random.Random) -> Plan:
    """One of `HOSTS_KINDS`, by their shares."""
    kind = chance.choices(list(HOSTS_KINDS), [share for share, _, _ in HOSTS_KINDS.values()])[0]
    return plan_of_hosts(replace(draft, kind=kind), chance)


def plan_of_hosts(draft: Plan, chance: random.Random) -> Plan:
    """The plan of a draft of one of `HOSTS_KINDS`."""
    _, _, plan = HOSTS_KINDS[draft.kind]
    made = plan(replace(draft, replicas=chance.choice(_REPLICAS)), chance)
    return replace(made, shape=replace(made.shape, hosts=True))


def _mixed(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(40, 250)
    pool = [*chance.sample(_FAULTS, 3), *chance.sample(list(HOSTS_CHAOS), 3)]
    return replace(
        draft,
        jobs=some_jobs(chance, horizon, "mixed"),
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(pool)) for _ in range(chance.randint(2, 9))
        ),
        horizon=horizon,
        poison=some_poison(chance, chance.choice([0, 0, 1, 2]), horizon),
    )


def _paused(draft: Plan, chance: random.Random) -> Plan:
    """Jobs that several replicas get at once, and one that sleeps in the middle of its work."""
    times = [chance.uniform(3, 30) for _ in range(chance.randint(2, 6))]
    jobs = [_told_often(plain_job(chance, each, at), chance) for each, at in enumerate(times)]
    chaos = [
        (max(0.0, chance.choice(times) - chance.uniform(0, 0.5)), "pause_at_work")
        for _ in range(chance.randint(1, 3))
    ]
    faults = ["lost_create", "lost_create", "target_weather", "table_weather", "clock_set", "kill"]
    if chance.random() < 0.6:
        chaos += [(chance.uniform(0, 60), chance.choice(faults)) for _ in range(2)]
    return replace(draft, jobs=jobs, chaos=sorted(chaos), horizon=chance.uniform(150, 400))


def _told_often(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    (first,) = planned.events
    again = [first + chance.choice([0.0, 0.05, chance.uniform(1, 150)]) for _ in range(2)]
    return replace(planned, events=(first, *sorted(again)))


def _lost_creates(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(15, 80)
    others = ["kill", "sigterm", "cancel", "pause_at_work", "table_weather", "clock_set"]
    pool = ["lost_create", "lost_create", *chance.sample(others, 2)]
    return replace(
        draft,
        jobs=some_jobs(chance, horizon, "lost creates"),
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(pool)) for _ in range(chance.randint(2, 8))
        ),
        horizon=horizon,
    )


def _outages(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(40, 250)
    return replace(
        draft,
        jobs=some_jobs(chance, horizon, "outages"),
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(list(OUTAGES)))
            for _ in range(chance.randint(1, 5))
        ),
        horizon=horizon,
        checks=frozenset({Check.NO_RECEIVE_USED_UP}),
    )


def _table(draft: Plan, chance: random.Random) -> Plan:
    """Nothing but the table is out of order: no job is to blame for that."""
    horizon = chance.uniform(60, 250)
    return replace(
        draft,
        jobs=plain_jobs(chance, chance.randint(3, 9), (0, horizon)),
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(_OF_THE_TABLE))
            for _ in range(chance.randint(1, 5))
        ),
        horizon=horizon,
        checks=frozenset({Check.NO_OWN_FAULT}),
    )


def _answers_lost(draft: Plan, chance: random.Random) -> Plan:
    """Answers of DynamoDB are lost, so few that every call succeeds: nobody may notice."""
    horizon = chance.uniform(60, 150)
    return replace(
        draft,
        jobs=plain_jobs(chance, chance.randint(5, 12), (0, horizon)),
        chaos=((-1.0, "answers_lost"),),
        horizon=horizon,
        checks=frozenset({Check.NO_OWN_FAULT, Check.NO_CLAIM_LOST, Check.NO_RECEIVE_USED_UP}),
    )


def _writers(draft: Plan, chance: random.Random) -> Plan:
    """The writer of a ModelDB V1 sleeps, is killed or closes while its calls are under way."""
    jobs = [plain_job(chance, 0, 3.0, projects=1)]
    times = [20.0, 20.0 + chance.uniform(60, 200), 20.0 + chance.uniform(200, 400)]
    for at in times:
        for _ in range(chance.randint(2, 6)):
            planned = plain_job(chance, len(jobs), at + chance.uniform(0, 3), projects=1)
            jobs.append(_told_often(planned, chance))
    pool = ["writer_pauses", "writer_pauses", "writer_ends_while_stalled", "clock_set", "kill"]
    chaos = [(at + chance.uniform(-0.5, 1), chance.choice(pool)) for at in times]
    return replace(draft, jobs=jobs, chaos=sorted(chaos), horizon=times[-1] + 200)


def _crowd(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(40, 120)
    pool = ["queue_habits", "aws_weather", "table_slow", "clock_set"]
    return replace(
        draft,
        jobs=some_jobs(chance, horizon, "crowd"),
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(pool)) for _ in range(chance.randint(1, 4))
        ),
        horizon=horizon,
        checks=frozenset({Check.NAMES_ONCE}),
    )


def _lost_events(draft: Plan, chance: random.Random) -> Plan:
    made = lost_events(draft, chance)
    pool = [*_PAUSES, *_OF_THE_TABLE, "kill", "clock_set"]
    chaos = [each for each in made.chaos if each[1] not in _OF_ONE_HOST]
    chaos += [(chance.uniform(0, made.horizon), chance.choice(pool)) for _ in range(2)]
    return replace(made, replicas=draft.replicas, chaos=sorted(chaos))


HOSTS_KINDS: dict[str, tuple[int, str, Callable[[Plan, random.Random], Plan]]] = {
    "hosts mixed": (30, "faults of all sorts", _mixed),
    "hosts paused": (20, "replicas sleep in the middle of their work", _paused),
    "hosts lost creates": (15, "answers of creates are lost", _lost_creates),
    "hosts outages": (5, "the target as a whole is out of order, nothing else", _outages),
    "hosts table": (8, "the table is out of order, nothing else", _table),
    "hosts answers lost": (5, "some answers of DynamoDB are lost, nothing else", _answers_lost),
    "hosts writers": (5, "the writer of a ModelDB V1 sleeps or ends", _writers),
    "hosts crowd": (7, "replicas start on the same names", _crowd),
    "hosts lost events": (5, "some jobs' events never come", _lost_events),
}
"""Shares of a hundred, for people, and how the plan is made."""
