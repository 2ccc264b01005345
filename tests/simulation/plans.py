"""Plans of histories: which jobs there are, when their messages arrive, which faults occur, and
what must hold at the end.

A plan follows from a seed, a target and the kind of history (`tests.simulation.kinds`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from tests.simulation.jobs import SimulatedJob, full_tags
from tests.simulation.loop import START
from tests.simulation.rejections import POISON

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from tests.simulation.rejections import Poison

JOB_KINDS = (
    "",
    "",
    "",
    "",
    "untagged",
    "incomplete",
    "failed",
    "late",
    "deleted",
    "again",
    "tags by list",
)
"""The plain ones have all their tags in the event."""


class Form(Enum):
    """What a message about a job looks like."""

    EVENT = auto()
    """From EventBridge."""
    BY_HAND = auto()
    """The job's ARN, as an operator writes it."""
    MOVED_BACK = auto()
    """The event, with the attributes of a dead letter."""
    LETTER = auto()
    """The same, in the dead-letter queue: the target has refused the job."""


SENT_FORMS = (Form.EVENT, Form.BY_HAND, Form.MOVED_BACK)
"""Those of messages in the queue."""


class Check(Enum):
    """What must hold in some histories, beyond what must hold in all."""

    NO_RECEIVE_USED_UP = auto()
    """Nothing but whole edges is out of order: no message is received twice."""
    FEW_RECEIVES_USED_UP = auto()
    """As above, but claims cannot be renewed: a second receive is allowed."""
    NO_OWN_FAULT = auto()
    """No job has a fault of its own."""
    NO_CLAIM_LOST = auto()
    """The checkpoint works: nobody loses a claim."""
    PROMPT_INTAKE = auto()
    """The queue works but for single requests: each message is received soon."""
    NAMES_ONCE = auto()
    """Nothing goes wrong that would excuse a project or experiment that is there twice."""


@dataclass(frozen=True)
class PlannedJob:
    """A job, and when its events arrive (seconds)."""

    job: SimulatedJob
    events: tuple[float, ...]
    leaves_at: float | None = None
    """From when on it is described as ``Deleting``."""
    deleted_at: float | None = None
    """When SageMaker forgets the job."""
    completes_late: float = 0.0
    """Seconds after the first event during which DescribeTrainingJob still says InProgress."""
    moved_at: float | None = None
    """When its project tag changes: the run may be in either project."""
    later: tuple[tuple[float, Form], ...] = ()
    """Further messages about it."""
    told: bool = True
    """Its events arrive; else only a request tells of it, or reconcile finds it."""
    tagged_at: float | None = None
    """When its tags become what they are in the end; until then they are those of its event."""
    form: Form = Form.EVENT
    """Of its events."""
    backfilled: bool = False
    """Its events are lost, and a backfill finds it."""

    runs_from: float | None = None
    """Since when SageMaker has it, as running; it ends right before its first event."""

    @property
    def announced(self) -> tuple[float, ...]:
        """When its events arrive."""
        return self.events if self.told and not self.backfilled else ()

    @property
    def lasts(self) -> bool:
        """SageMaker does not forget it."""
        return self.deleted_at is None


@dataclass(frozen=True)
class PlannedRequest:
    """A process that hands a job over to the daemon, and when (seconds)."""

    at: float
    job: str
    """Its name."""
    force: bool
    leaves_after: float | None = None
    """Seconds until it goes away without an answer; None: it waits."""
    is_killed: bool = False
    """It goes away without withdrawing its request."""


@dataclass(frozen=True)
class Shape:
    """What a world is like; None: by chance."""

    dead_letters: bool | None = None
    """Whether there is a dead-letter queue."""
    metadata_store: bool | None = None
    """Whether ModelDB V1 has one."""
    other_place: str = ""
    """Kind of a second target; "": there is none."""
    old_checkpoint: bool | None = None
    """Whether the checkpoint has been in use for long; else it is a new one."""
    own_queue: bool = False
    """The replicas that write to it have a queue of their own."""
    accounts: bool = False
    """There is a second account, and five messages fill a daemon."""
    reconcile: bool = False
    """The daemons look for jobs whose events are lost."""
    hosts: bool = False
    """Each replica is on a host of its own, with a clock of its own, and the checkpoint is a table
    in DynamoDB; else they are on one host, and it is a file."""


@dataclass(frozen=True)
class Plan:
    """A history before it runs."""

    seed: int
    target: str
    kind: str
    """One of `tests.simulation.kinds.KINDS`."""
    replicas: int
    jobs: Sequence[PlannedJob]
    chaos: Sequence[tuple[float, str]]
    horizon: float
    """When all faults end."""
    poison: Sequence[tuple[float, Poison]] = ()
    """Messages that cannot be understood, and when they are sent."""
    checks: frozenset[Check] = frozenset()
    shape: Shape = field(default_factory=Shape)
    requests: Sequence[PlannedRequest] = ()
    longest_intake: float = 0.0
    """With `Check.PROMPT_INTAKE`: seconds from the queue to the first receive."""

    def suffers(self, *names: str) -> bool:
        """Whether one of these faults is planned."""
        return any(name in names for _, name in self.chaos)


def some_jobs(chance: random.Random, horizon: float, kind: str) -> list[PlannedJob]:
    """Jobs of all kinds."""
    planned: list[PlannedJob] = []
    plain = kind == "outages"
    together = chance.random() < (1.0 if kind == "crowd" else 0.5)
    burst = chance.uniform(0, horizon / 2)
    for number in range(chance.randint(1, 9)):
        name = f"job-{number}"
        tags = full_tags(f"project-{chance.randrange(3)}", f"model-{chance.randrange(2)}")
        at = burst + chance.random() if together else chance.uniform(0, horizon)
        again = chance.choice([0, 0, 1, 2]) if not plain else 0
        longest = {"amnesia": horizon - at, "lost creates": 25}.get(kind, 120)
        events = tuple(
            sorted(
                [
                    at,
                    *(
                        at + chance.choice([0.0, 0.05, chance.uniform(0, longest)])
                        for _ in range(again)
                    ),
                ]
            )
        )
        job_kind = chance.choice(JOB_KINDS) if not plain else ""
        match job_kind:
            case "untagged":
                tags.pop("MODEL_DB_SYNC")
            case "incomplete":
                tags = half_tagged(tags, chance)
        event_tags = None if job_kind == "tags by list" else tags
        job = replace(
            _ended(name, at, tags, event_tags, chance),
            status="Failed" if job_kind == "failed" else "Completed",
        )
        deleted = at + chance.uniform(0, 60) if job_kind == "deleted" else None
        if job_kind == "again":
            deleted = at + chance.uniform(0, 60)
            # they must not seem to be one job: they are never created in the same second
            job = replace(job, created=job.created - 1800, seconds=job.seconds + 1800)
            newer_at = deleted + 0.002 + chance.uniform(0, 60)
            newer = _ended(name, newer_at, tags, event_tags, chance)
            planned.append(PlannedJob(newer, (newer_at,)))
        planned.append(
            PlannedJob(
                job,
                events,
                deleted_at=deleted,
                completes_late=chance.uniform(0, 30) if job_kind == "late" else 0.0,
            )
        )
    return planned


def plain_jobs(
    chance: random.Random, count: int, at: tuple[float, float], *, projects: int = 2
) -> list[PlannedJob]:
    """Jobs with nothing special about them, one event each.

    Args:
        at: between which two moments their events arrive.
        projects: how many.
    """
    return [
        plain_job(chance, number, chance.uniform(*at), projects=projects) for number in range(count)
    ]


def plain_job(chance: random.Random, number: int, at: float, *, projects: int = 2) -> PlannedJob:
    """One of `plain_jobs`."""
    tags = full_tags(f"project-{chance.randrange(projects)}", f"model-{chance.randrange(2)}")
    return PlannedJob(_ended(f"job-{number}", at, tags, tags, chance), (at,))


def _ended(
    name: str,
    at: float,
    tags: Mapping[str, str],
    event_tags: Mapping[str, str] | None,
    chance: random.Random,
) -> SimulatedJob:
    """A job that ends right before its first event."""
    seconds = chance.uniform(60, 600)
    created = START + at - chance.uniform(0.1, 2) - seconds
    return SimulatedJob(name, created, "Completed", tags, event_tags, seconds)


def half_tagged(tags: Mapping[str, str], chance: random.Random) -> dict[str, str]:
    """The tags, one of those that every job needs blank or missing."""
    name = chance.choice(["MODEL_DB_MODEL_NAME", "MODEL_DB_PROJECT_NAME", "MODEL_DB_PROJECT_USER"])
    half = dict(tags)
    if chance.random() < 0.5:
        half[name] = "  "
    else:
        del half[name]
    return half


def moved(planned: PlannedJob, chance: random.Random) -> PlannedJob:
    """The job with another project tag from some time between its events on, or as it is."""
    if (
        planned.job.run is None
        or not planned.lasts
        or len(planned.events) == 1
        or chance.random() < 0.4
    ):
        return planned
    return replace(planned, moved_at=chance.uniform(planned.events[0], planned.events[-1]))


def some_poison(
    chance: random.Random, count: int, until: float
) -> tuple[tuple[float, Poison], ...]:
    """So many messages that cannot be understood, at any time until a moment."""
    return tuple((chance.uniform(0, until), chance.choice(POISON)) for _ in range(count))
