"""ModelDB V2 for the simulation: the demo's stand-in, which answers as recorded, behind the network
of `tests.simulation.http_server`.

As on the real server, a create first checks whether its name exists and stores it a moment later,
so overlapping creates make duplicates.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE, map_run
from tests.simulation.http_server import (
    DISCONNECTED,
    GATEWAY_PAGE,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    Ending,
    HttpRequest,
    HttpResponse,
    SimulatedHttp,
    SimulatedHttpServer,
    json_response,
)
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from daemon.training_job.training_run import TrainingRun
    from tests.simulation.loop import VirtualLoop

FATES = {
    "request lost": "the connection breaks before the server has read it",
    "answer lost": "carried out; the connection breaks",
    "no answer": "carried out; nothing ever comes back",
    "never arrives": "nothing ever happens",
    "slow": "carried out after the caller's time-out, but within the settle time",
    "stalls": "looked at in time, and stored as late as a slow one: whatever was created "
    "meanwhile, it did not see",
    "503": "not carried out",
    "503 after": "carried out; the proxy has lost its back-end meanwhile",
    "502 page": "carried out; a gateway answers with a page of its own",
    "500 bare": "not carried out: a dead connection to the database",
}
_NO_BACKEND = json_response(
    503, {"code": 14, "message": "connection error", "error": "connection error"}
)


class SimulatedModelDbV2(SimulatedHttpServer):
    system = "ModelDB"
    fates = FATES
    not_carried_out: ClassVar[Mapping[str, Ending]] = {
        "request lost": DISCONNECTED,
        "never arrives": None,
        "503": _NO_BACKEND,
        "500 bare": json_response(500, {"code": 2, "message": "", "error": ""}),
    }
    carried_out: ClassVar[Mapping[str, Ending]] = {
        "answer lost": DISCONNECTED,
        "no answer": None,
        "503 after": _NO_BACKEND,
        "502 page": GATEWAY_PAGE,
    }
    lost_creates = tuple(
        ("createExperimentRun", fate)
        for fate in (
            "answer lost",
            "no answer",
            "never arrives",
            "slow",
            # the one that makes duplicates
            "stalls",
            "stalls",
            "503 after",
            "502 page",
        )
    )
    unsteady = ("503", "request lost", "answer lost", "503 after", "502 page")

    def __init__(
        self,
        loop: VirtualLoop,
        seeded: random.Random,
        record: Callable[[str], None],
        *,
        timeout_seconds: float,
        settle_seconds: float,
    ) -> None:
        super().__init__(
            loop, seeded, record, timeout_seconds=timeout_seconds, settle_seconds=settle_seconds
        )
        self.stand_in = _Hurried(seeded)

    def freeze(self, *, on: bool) -> None:
        self.stand_in.faults.frozen = on

    def lose_database(self, *, on: bool) -> None:
        self.stand_in.faults.database_down = on

    async def thawed(self) -> None:
        await self.stand_in.faults.thawed()

    def operation_of(self, path: str) -> str:
        return path.rpartition("/")[2]

    async def carry_out(
        self, request: HttpRequest, body: bytes, *, stalls: bool
    ) -> HttpResponse | None:
        if stalls:
            self.stand_in.stall_seconds = self.late_seconds()
        response = await self.stand_in.respond(request, body)
        operation = self.operation_of(request.path)
        if operation.startswith(("create", "delete")):
            self._record(
                f"ModelDB: {operation} {_named(body)}: "
                f"{response.status if response is not None else 'nothing'}"
            )
        if response is None:
            return None
        content = response.body if isinstance(response.body, bytes) else b""
        return HttpResponse(response.status, response.content_type, content)

    # --- what is there ----------------------------------------------------------------------------

    def has(self, job: TrainingRun) -> bool:
        """Whether there is a run with the job's mark."""
        return bool(self._by_mark().get((job.mark.arn, job.mark.creation_time)))

    def _by_mark(self) -> dict[tuple[object, object], list[dict[str, Any]]]:
        by_mark: dict[tuple[object, object], list[dict[str, Any]]] = {}
        for entity in self.stand_in.store.runs.all_live():
            values = {each["key"]: each["value"] for each in entity.row.get("attributes", ())}
            by_mark.setdefault(
                (values.get(ARN_ATTRIBUTE), values.get(CREATION_TIME_ATTRIBUTE)), []
            ).append(entity.row)
        return by_mark

    def duplicate_names(self) -> list[str]:
        """Projects and experiments that are there twice, where nothing has gone wrong that would
        excuse it.
        """
        store = self.stand_in.store
        projects = Counter(entity.row["name"] for entity in store.projects.all_live())
        experiments = Counter(
            (entity.row["project_id"], entity.row["name"])
            for entity in store.experiments.all_live()
        )
        return [
            f"{count} times {name}"
            for name, count in (*projects.items(), *experiments.items())
            if count > 1
        ]

    def wrong(self, jobs: Sequence[TrainingRun]) -> list[str]:
        """What is not as it should be: a job without a run or with two, an incomplete run, a run
        that nobody wanted.
        """
        found = []
        by_mark = self._by_mark()
        for job in jobs:
            own = by_mark.pop((job.mark.arn, job.mark.creation_time), [])
            if len(own) != 1:
                found.append(f"{job.name}: {len(own)} runs")
            else:
                found += _incomplete(job, own[0])
        return found + [f"a run that nobody wanted: {mark}" for mark in by_mark]


class SimulatedClient(ModelDbV2Client):
    """The real client, over the simulated network."""

    def __init__(self, server: SimulatedModelDbV2, **more: Any) -> None:
        session: Any = SimulatedHttp(server)
        super().__init__(
            "http://modeldb:8080/v1", headers={}, tls=None, client_session=session, **more
        )


class _Hurried(ModelDbV2StandIn):
    """Its calls take a few milliseconds, by chance.

    Attributes:
        stall_seconds: what the next call takes instead, between its look and its write.
    """

    def __init__(self, seeded: random.Random) -> None:
        self._random = seeded
        self.stall_seconds: float | None = None
        super().__init__()
        self.faults.database_answer_seconds = 0.5

    @property
    def latency_seconds(self) -> float:
        stall, self.stall_seconds = self.stall_seconds, None
        return self._random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS) if stall is None else stall

    @latency_seconds.setter
    def latency_seconds(self, seconds: float) -> None:
        """By chance only."""


def _incomplete(job: TrainingRun, row: Mapping[str, Any]) -> list[str]:
    mapped = map_run(job)
    lists = ("attributes", "hyperparameters", "metrics", "datasets", "artifacts", "tags")
    return [
        f"{job.name}: {len(row.get(name, ()))} {name} instead of {len(mapped.body.get(name, ()))}"
        for name in lists
        if len(row.get(name, ())) != len(mapped.body.get(name, ()))
    ]


def _named(body: bytes) -> str:
    content = json.loads(body)
    return repr(content.get("name") or content.get("ids") or content.get("id"))
