"""The kinds of histories, and how the plan of each is made.

Some are of everything by chance; the others bring together what meets too seldom by chance, and
check what holds only where nothing else goes wrong.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.simulation import accounts, backfill, redrive
from tests.simulation.by_hand import by_hand
from tests.simulation.chaos import CHAOS, OUTAGES
from tests.simulation.handing_over import handed_over_plan
from tests.simulation.hosts_kinds import HOSTS_KINDS, hosts_plan, plan_of_hosts
from tests.simulation.lost_events import lost_events
from tests.simulation.mlflow_people import doubles_plan, people_plan
from tests.simulation.plans import (
    SENT_FORMS,
    Check,
    Form,
    Plan,
    PlannedJob,
    Shape,
    half_tagged,
    moved,
    plain_job,
    plain_jobs,
    some_jobs,
    some_poison,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALL = ("modeldb-v2", "modeldb-v1", "mlflow")
_LEAVES_NAMES_ALONE = ("queue_habits", "aws_weather", "queue_down", "sagemaker_down")
_SHORT_FAULTS = 12
"""So many, each with time to recover."""
_LONGEST_INTAKE = 15.0
HOSTS = "hosts"
"""A mix of its own."""


@dataclass(frozen=True)
class Kind:
    """One kind of history.

    Attributes:
        share: of a hundred histories of the default mix with a target that it fits.
        about: for people.
        plan: makes the plan from its draft, which has a seed and a target only.
        targets: that it fits.
    """

    share: int
    about: str
    plan: Callable[[Plan, random.Random], Plan]
    targets: tuple[str, ...] = ALL

    @property
    def is_scripted(self) -> bool:
        """Not of everything by chance."""
        return self.plan is not _by_chance


def plan_of(seed: int, target: str, kind: str = "") -> Plan:
    """The plan of a long history.

    Args:
        kind: "": as the default mix has it.
    """
    chance = random.Random(f"plan {target} {seed}")
    fitting = [name for name, each in KINDS.items() if target in each.targets]
    drawn = chance.choices(fitting, [KINDS[name].share for name in fitting])[0]
    kind = kind or drawn
    draft = Plan(seed, target, kind, 1, (), (), 0.0)
    return KINDS[kind].plan(draft, chance)


def _by_chance(draft: Plan, chance: random.Random) -> Plan:
    """Faults of all sorts, or of one."""
    horizon = chance.uniform(40, 250)
    replicas = chance.choice([1, 1, 2, 3])
    faults = chance.sample(list(CHAOS), chance.randint(1, 6))
    happenings = chance.randint(1, 8)
    checks = set[Check]()
    match draft.kind:
        case "outages":
            faults = list(OUTAGES)
            checks.add(Check.NO_RECEIVE_USED_UP)
        case "lost creates":
            faults = [
                "lost_create",
                "lost_create",
                *chance.sample(["kill", "sigterm", "cancel", "clock_jump", "target_weather"], 2),
            ]
            horizon /= 3
        case "amnesia":
            faults = ["checkpoint_deleted", chance.choice(list(CHAOS))]
            happenings = min(happenings, 3)
        case "crowd":
            faults = [chance.choice(_LEAVES_NAMES_ALONE)]
            replicas = chance.choice([2, 3])
            checks.add(Check.NAMES_ONCE)
    jobs = some_jobs(chance, horizon, draft.kind)
    if draft.kind in {"mixed", "lost creates"}:
        jobs = _some_leave(jobs, random.Random(f"leaves {draft.target} {draft.seed}"))
    if draft.kind == "amnesia":
        jobs = [moved(planned, chance) for planned in jobs]
    return replace(
        draft,
        replicas=replicas,
        jobs=jobs,
        chaos=sorted(
            (chance.uniform(0, horizon), chance.choice(faults)) for _ in range(happenings)
        ),
        horizon=horizon,
        poison=some_poison(chance, chance.choice([0, 0, 1, 2]), horizon),
        checks=frozenset(checks),
    )


def _some_leave(jobs: Sequence[PlannedJob], chance: random.Random) -> list[PlannedJob]:
    """The jobs, some of which are being deleted from their event on, or a little later."""
    return [
        replace(planned, leaves_at=planned.events[0] + chance.choice([0.0, chance.uniform(0, 20)]))
        if planned.lasts and not planned.completes_late and chance.random() < 0.3
        else planned
        for planned in jobs
    ]


def _rejections(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(60, 150)
    jobs = [
        _half(planned, chance) if chance.random() < 0.6 else planned
        for planned in plain_jobs(chance, chance.randint(2, 7), (0, horizon))
    ]
    faults = [
        chance.choice(["dead_letters_unknown", "dead_letters_fail", "aws_weather", "kill"])
        for _ in range(chance.randint(1, 3))
    ]
    chaos = [(chance.uniform(0, horizon), name) for name in faults]
    if chance.random() < 0.4:
        chaos.append((-1.0, "dead_letters_unknown"))
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2]),
        jobs=jobs,
        chaos=sorted(chaos),
        horizon=horizon,
        poison=some_poison(chance, chance.randint(2, 7), horizon),
    )


def _half(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    tags = half_tagged(planned.job.tags, chance)
    given = None if chance.random() < 0.3 else tags
    return replace(planned, job=replace(planned.job, tags=tags, event_tags=given))


def _standby(draft: Plan, chance: random.Random) -> Plan:
    at = 20 + chance.uniform(0, 5)
    # the first one makes the writer connect, so that the others are written without waiting
    jobs = [plain_job(chance, 0, 3.0, projects=1)]
    for number in range(1, chance.randint(4, 9)):
        planned = plain_job(chance, number, at + chance.uniform(0, 0.5), projects=1)
        (first,) = planned.events
        jobs.append(replace(planned, events=(first, first + chance.uniform(3, 30))))
    if chance.random() < 0.6:
        fault = (at + chance.uniform(-4, 0.1), "writer_ends_without_mongo")
    else:
        fault = (at + chance.uniform(-0.5, 0.3), "writer_killed_while_stalled")
    return replace(
        draft,
        replicas=chance.choice([2, 2, 3]),
        jobs=jobs,
        chaos=(fault,),
        horizon=at + 180,
        shape=Shape(metadata_store=True),
    )


def _lost_checkpoint(draft: Plan, chance: random.Random) -> Plan:
    jobs = []
    # what EventBridge itself repeats within minutes of a copy that was put back, nobody can tell
    # from an event that was never seen
    copied = chance.random() < 0.4
    known_forms = [Form.BY_HAND, Form.MOVED_BACK] if copied else SENT_FORMS
    for planned in plain_jobs(chance, chance.randint(1, 5), (3, 13)):
        forms = chance.choices(known_forms, k=chance.choice([1, 1, 2]))
        later = tuple((chance.uniform(160, 200), form) for form in forms)
        at = chance.uniform(60, 150) if chance.random() < 0.7 else None
        jobs.append(replace(planned, moved_at=at, later=later))
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2]),
        jobs=jobs,
        chaos=((2.5, "backup_made"), (40.0, "backup_put_back"))
        if copied
        else ((40.0, "a_day_later"),),
        horizon=220.0,
        shape=Shape(old_checkpoint=True) if copied else Shape(),
    )


def _another_place(draft: Plan, chance: random.Random) -> Plan:
    together = chance.random() < 0.4
    jobs = plain_jobs(chance, chance.randint(1, 5), (0, 15))
    chaos: tuple[tuple[float, str], ...] = ()
    if not together:
        back = chance.random() < 0.4
        chaos = ((60.0, "other_place"), *(((180.0, "first_place"),) if back else ()))
        times = (130.0, 240.0) if back else (130.0,)
        jobs = [
            replace(
                planned,
                later=tuple(
                    (at + chance.uniform(0, 20), chance.choice(SENT_FORMS)) for at in times
                ),
            )
            for planned in jobs
        ]
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2]),
        jobs=jobs,
        chaos=chaos,
        horizon=60.0 if together else 290.0,
        shape=Shape(other_place=chance.choice(ALL), own_queue=together),
    )


def _hanging_disk(draft: Plan, chance: random.Random) -> Plan:
    at = 10 + chance.uniform(0, 10)
    chaos = ((at - 0.5, "target_slow"), (at, "disk_hangs"))
    return replace(
        draft,
        jobs=plain_jobs(chance, chance.randint(2, 8), (at, at + 2)),
        chaos=chaos,
        horizon=at + 60,
        checks=frozenset({Check.FEW_RECEIVES_USED_UP, Check.NO_OWN_FAULT}),
    )


def _silent_queue(draft: Plan, chance: random.Random) -> Plan:
    at = 10 + chance.uniform(0, 10)
    return replace(
        draft,
        replicas=chance.choice([1, 2]),
        jobs=plain_jobs(chance, chance.randint(2, 8), (at, at + 2)),
        chaos=((at - 0.5, "target_away"), (at, "queue_silent")),
        horizon=at + 60,
        checks=frozenset({Check.NO_CLAIM_LOST, Check.NO_OWN_FAULT}),
    )


def _short_faults(draft: Plan, chance: random.Random) -> Plan:
    pause, name = chance.uniform(15, 30), chance.choice(["single_queue_fault", "short_queue_fault"])
    faults = [10 + number * pause for number in range(_SHORT_FAULTS)]
    # one job ends the long poll that is under way, the other one comes when SQS works again
    times = [at + later for at in faults for later in (0.5, chance.uniform(1, 3))]
    jobs = [plain_job(chance, number, at) for number, at in enumerate(times)]
    return replace(
        draft,
        jobs=jobs,
        chaos=tuple((at, name) for at in faults),
        horizon=faults[-1] + 60,
        checks=frozenset({Check.PROMPT_INTAKE, Check.NO_OWN_FAULT, Check.NO_RECEIVE_USED_UP}),
        longest_intake=_LONGEST_INTAKE,
    )


def _throttling(draft: Plan, chance: random.Random) -> Plan:
    jobs = plain_jobs(chance, chance.randint(6, 15), (5, 60))
    listed = [
        replace(planned, job=replace(planned.job, event_tags=None))
        if chance.random() < 0.5
        else planned
        for planned in jobs
    ]
    return replace(
        draft,
        jobs=listed,
        chaos=((3.0, "sagemaker_throttles"),),
        horizon=120.0,
        checks=frozenset({Check.NO_OWN_FAULT, Check.NO_RECEIVE_USED_UP}),
    )


def _unsteady_target(draft: Plan, chance: random.Random) -> Plan:
    return replace(
        draft,
        jobs=plain_jobs(chance, chance.randint(6, 15), (5, 60)),
        chaos=((3.0, "target_unsteady"),),
        horizon=120.0,
        checks=frozenset({Check.NO_OWN_FAULT, Check.NO_RECEIVE_USED_UP}),
    )


def _replica_lag(draft: Plan, chance: random.Random) -> Plan:
    horizon = chance.uniform(40, 150)
    faults = ["kill", "lost_create", "lost_create", "target_weather", "sigterm", "cancel"]
    chaos = [
        (chance.uniform(0, horizon), chance.choice(faults)) for _ in range(chance.randint(1, 6))
    ]
    return replace(
        draft,
        replicas=chance.choice([1, 1, 2, 3]),
        jobs=some_jobs(chance, horizon, draft.kind),
        chaos=((-1.0, "reads_lag"), *sorted(chaos)),
        horizon=horizon,
    )


KINDS = {
    "mixed": Kind(30, "faults of all sorts", _by_chance),
    "outages": Kind(10, "the target as a whole is out of order, nothing else", _by_chance),
    "lost creates": Kind(15, "answers of creates are lost", _by_chance),
    "amnesia": Kind(8, "the checkpoint is deleted", _by_chance),
    "crowd": Kind(7, "replicas start on the same names", _by_chance),
    "rejections": Kind(5, "messages that must be found among the dead letters", _rejections),
    "by hand": Kind(
        1,
        "people change runs, operators repair them, some are killed",
        by_hand,
        ("modeldb-v2", "mlflow"),
    ),
    "people": Kind(
        4, "people edit and delete runs, and their jobs come again", people_plan, ("mlflow",)
    ),
    "doubles": Kind(2, "another daemon has written the same jobs", doubles_plan, ("mlflow",)),
    "replica lag": Kind(8, "reads lag behind writes", _replica_lag, ("mlflow",)),
    "standby": Kind(
        5,
        "another process becomes the writer while calls of the last one are under way",
        _standby,
        ("modeldb-v1",),
    ),
    "lost checkpoint": Kind(
        5, "a day after the checkpoint was lost, jobs are sent again", _lost_checkpoint
    ),
    "handed over": Kind(
        4, "other processes hand jobs over to the daemon", handed_over_plan, ("modeldb-v1",)
    ),
    "another place": Kind(4, "two targets on one checkpoint", _another_place),
    "hanging disk": Kind(3, "a call of the checkpoint does not return for minutes", _hanging_disk),
    "silent queue": Kind(3, "SQS does not answer while jobs are held", _silent_queue),
    "short faults": Kind(
        2, "one or two receives fail, with time to recover between", _short_faults
    ),
    "throttling": Kind(2, "SageMaker throttles for minutes", _throttling),
    "redrive": Kind(2, "an operator who is killed sends dead letters back", redrive.plan),
    "unsteady target": Kind(3, "many calls of the target fail for minutes", _unsteady_target),
    "lost events": Kind(2, "some jobs' events never come", lost_events),
    "backfill": Kind(
        2, "events are lost; a backfill is killed and begun again until it ends", backfill.plan
    ),
    # none of the default mix, whose histories it would change
    accounts.KIND: Kind(0, "a second account is denied and allowed again", accounts.accounts),
    HOSTS: Kind(0, "several hosts with a checkpoint in DynamoDB", hosts_plan),
    **{name: Kind(0, about, plan_of_hosts) for name, (_, about, _) in HOSTS_KINDS.items()},
}
