"""MLflow for the simulation: the demo's model of the server, which answers as recorded, behind the
network of `tests.simulation.http_server`.

The real server carries out a request in one transaction, so nothing is looked at early and stored
late. What it adds to the fates of the network: reads that lag behind, as from a replica of the
database. A late write and the lag together are shorter than `settle_seconds`.

From the start there are runs, an experiment and a model of people's own, under the names that jobs
have, too. Nobody but them may touch those.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar

from daemon.demo.mlflow.model import MlflowModel
from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.mapping import (
    ARN_TAG,
    CREATION_TIME_TAG,
    DOUBLE_OF_TAG,
    WRITTEN_TAG,
    distinct_run_name,
    map_run,
)
from tests.simulation.http_server import (
    DISCONNECTED,
    GATEWAY_PAGE,
    Ending,
    HttpRequest,
    HttpResponse,
    SimulatedHttp,
    SimulatedHttpServer,
    json_response,
)
from tests.simulation.loop import START

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.training_job.training_run import TrainingRun
    from tests.simulation.loop import VirtualLoop

FATES = {
    "request lost": "the connection breaks before the server has read it",
    "answer lost": "carried out; the connection breaks",
    "no answer": "carried out; nothing ever comes back",
    "never arrives": "nothing ever happens",
    "slow": "carried out after the caller's time-out, but within the settle time",
    "503": "not carried out: no connection to the database",
    "503 after": "carried out; the proxy has lost its back-end meanwhile",
    "502 page": "carried out; a gateway answers with a page of its own",
    "500": "not carried out: something that the server did not foresee",
    "500 after": "carried out, then that",
}
API = "/api/2.0/mlflow/"
LONGEST_LAG = 0.3
"""Of the settle time."""
PEOPLES_NAME = "job-0"
"""Of people's own run, and of a job in many histories."""
_NO_DATABASE = json_response(
    503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "(psycopg2.OperationalError)"}
)
_INTERNAL = json_response(500, {"error_code": "INTERNAL_ERROR", "message": "Internal error"})
_UNKNOWN_CREATES = (
    "answer lost",
    "no answer",
    "never arrives",
    "slow",
    "slow",
    "503 after",
    "502 page",
    "500 after",
)
_DELETED = "deleted"


class SimulatedMlflow(SimulatedHttpServer):
    system = "MLflow"
    fates = FATES
    not_carried_out: ClassVar[Mapping[str, Ending]] = {
        "request lost": DISCONNECTED,
        "never arrives": None,
        "503": _NO_DATABASE,
        "500": _INTERNAL,
    }
    carried_out: ClassVar[Mapping[str, Ending]] = {
        "answer lost": DISCONNECTED,
        "no answer": None,
        "503 after": HttpResponse(503, "text/html", b"<html>Service Unavailable</html>"),
        "502 page": GATEWAY_PAGE,
        "500 after": _INTERNAL,
    }
    lost_creates = tuple(
        (operation, fate)
        for operation in ("runs/create", "runs/create", "model-versions/create")
        for fate in _UNKNOWN_CREATES
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
        self.model = MlflowModel(
            # its clock is right, whatever becomes of the daemon's
            now_ms=lambda: round((START + loop.time()) * 1000),
            new_id=lambda: f"{seeded.getrandbits(128):032x}",
        )
        self.deleted_by_people: set[str] = set()
        """Ids of runs."""
        self.versions_deleted_by_people: set[str] = set()
        """Ids of the runs whose version a person has deleted."""
        self.edited_by_people: dict[str, dict[str, Any]] = {}
        """By id, as the runs were then."""
        self.described_by_people: dict[str, str] = {}
        """By the id of its run, what people wrote of a model version."""
        self.untold: dict[str, str] = {}
        """Tags of runs that are people's now."""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._peoples_own = self._make_peoples_own()

    def _make_peoples_own(self) -> dict[str, Any]:
        """What is there before the daemon, and must be the same at the end."""
        project = self.call("experiments/create", name="project-0")["experiment_id"]
        other = self.call("experiments/create", name="people's")["experiment_id"]
        for experiment in (project, other):
            run = self.call(
                "runs/create",
                experiment_id=experiment,
                run_name=PEOPLES_NAME,
                start_time=1_700_000_000_000,
                tags=[{"key": "model_name", "value": "model-0"}],
            )["run"]["info"]["run_id"]
            self.call("runs/log-batch", run_id=run, params=[{"key": "eta", "value": "0.5"}])
        self.call("registered-models/create", name="model-0", description="People's own.")
        self.call("model-versions/create", name="model-0", source="s3://theirs/1", run_id=run)
        return self._unmarked()

    def call(self, operation: str, *, method: str = "POST", **body: object) -> Any:
        """A call of people's, which nothing can go wrong with."""
        headers = {"Content-Type": "application/json"}
        reply = self.model.answer(method, API + operation, "", headers, json.dumps(body).encode())
        assert reply.status == 200, (operation, body, reply)
        return json.loads(reply.body)

    def lag(self, seconds: float) -> None:
        """From now on, reads are so far behind; 0: not at all."""
        if seconds:
            self._record(f"MLflow: reads lag by {seconds:.1f} s")
        self.model.replica_lag_ms = round(seconds * 1000)

    def freeze(self, *, on: bool) -> None:
        if on:
            self._thawed.clear()
        else:
            self._thawed.set()

    def lose_database(self, *, on: bool) -> None:
        self.model.database_down = on

    def calm(self) -> None:
        super().calm()
        self.lag(0.0)

    async def thawed(self) -> None:
        await self._thawed.wait()

    def operation_of(self, path: str) -> str:
        return path.removeprefix(API)

    @property
    def longest_seconds(self) -> float:
        return self._settle_seconds - self.model.replica_lag_ms / 1000

    async def carry_out(
        self, request: HttpRequest, body: bytes, *, stalls: bool
    ) -> HttpResponse | None:
        del stalls  # it has no such fate
        reply = self.model.answer(
            request.method, request.path, request.query_string, request.headers, body
        )
        operation = self.operation_of(request.path)
        if operation.endswith(("create", "delete", "update", "delete-tag", "set-tag")):
            self._record(f"MLflow: {operation} {_named(body)}: {reply.status} {_made(reply.body)}")
        return HttpResponse(reply.status, reply.content_type, reply.body)

    # --- what is there ----------------------------------------------------------------------------

    def has(self, job: TrainingRun) -> bool:
        return any(not is_deleted(run) for run in self.runs_of(job))

    def runs_of(self, job: TrainingRun) -> list[dict[str, Any]]:
        """The runs with the job's mark, deleted ones too."""
        return [run for run in self.model.runs() if _mark(run) == _mark_of(job)]

    def stored(self, run_id: str) -> dict[str, Any]:
        """A run."""
        return next(run for run in self.model.runs() if id_of(run) == run_id)

    def delete_versions_of(self, run_id: str) -> None:
        """A person deletes the model versions of a run."""
        self.versions_deleted_by_people.add(run_id)
        for each in self.model.model_versions():
            if each["run_id"] == run_id:
                self.call(
                    "model-versions/delete",
                    method="DELETE",
                    name=each["name"],
                    version=each["version"],
                )

    def describe_versions_of(self, run_id: str, description: str) -> None:
        """A person describes the model versions of a run."""
        self.described_by_people[run_id] = description
        for each in self.model.model_versions():
            if each["run_id"] == run_id:
                self.call(
                    "model-versions/update",
                    method="PATCH",
                    name=each["name"],
                    version=each["version"],
                    description=description,
                )

    def write_again(self, run: Mapping[str, Any], *, is_complete: bool, with_version: bool) -> None:
        """A run of the same job, a little later, without its metrics."""
        info, tags = run["info"], dict(run["tags"])
        tags[WRITTEN_TAG] += "+"
        run_id = self.call(
            "runs/create",
            experiment_id=info["experiment_id"],
            run_name=info["run_name"],
            start_time=info["start_time"],
            tags=_pairs(tags),
        )["run"]["info"]["run_id"]
        for each in self.model.model_versions() if with_version else ():
            if each["run_id"] == id_of(run):
                copied = {key: each[key] for key in ("name", "source", "description", "tags")}
                self.call("model-versions/create", run_id=run_id, **copied)
        if is_complete:
            self.call("runs/update", run_id=run_id, status=info["status"])

    def undo_edit(self, run_id: str, added: str, note: str) -> None:
        """Takes away what people added, so that the run is complete for the invariants."""
        run = self.model.store.runs[run_id]
        run.name = run.name.removesuffix("-best")
        for values in (run.tags, run.params, run.latest):
            values.pop(added, None)
        self.untold[run_id] = note

    def marked_runs(self) -> list[dict[str, Any]]:
        """The active runs with any mark."""
        return [run for run in self.model.runs() if _is_marked(run) and not is_deleted(run)]

    def duplicate_names(self) -> list[str]:
        return []  # the database allows none

    def wrong(self, jobs: Sequence[TrainingRun]) -> list[str]:
        found = [f"MLflow stopped to read a request: {each}" for each in self.model.stopped_parses]
        if self._unmarked() != self._peoples_own:
            found.append("people's own runs, models or experiments are not as they were")
        left = {id_of(run): run for run in self.model.runs() if _is_marked(run)}
        for job in jobs:
            runs = self.runs_of(job)
            for run in runs:
                left.pop(id_of(run))
            found += self._wrong_of(job, runs)
        found += [
            f"a run that nobody wanted: {run['info']['run_name']} {_mark(run)}"
            for run in left.values()
            if not is_deleted(run)
        ]
        return found

    def _wrong_of(self, job: TrainingRun, runs: Sequence[Mapping[str, Any]]) -> list[str]:
        active = [run for run in runs if not is_deleted(run)]
        removed = {id_of(run) for run in runs if is_deleted(run)}
        found = [
            f"{job.name}: run {id_of(run)} was deleted without a word why"
            for run in runs
            if is_deleted(run)
            and id_of(run) not in self.deleted_by_people
            and DOUBLE_OF_TAG not in run["tags"]
        ]
        if removed & self.deleted_by_people:
            if active:
                found.append(f"{job.name}: {len(active)} runs, although a person had deleted it")
            return found
        if len(active) != 1:
            return [*found, f"{job.name}: {len(active)} runs"]
        before = self.edited_by_people.get(id_of(active[0]))
        if before is None:
            found += self._incomplete(job, active[0])
        elif before != active[0]:
            found.append(f"{job.name}: what people have edited is not as they left it")
        if any(_written(run) < _written(active[0]) for run in runs):
            found.append(f"{job.name}: of several runs, not the first one is left")
        return found + self._wrong_versions(job, active[0])

    def _incomplete(self, job: TrainingRun, run: Mapping[str, Any]) -> list[str]:
        """How a run differs from what its job says."""
        mapped = map_run(job)
        wanted, stored = _content(mapped), _stored(run)
        if run["info"]["run_name"] == distinct_run_name(mapped.run_name, mapped.mark):
            wanted["name"] = stored["name"]
        experiment = self.model.store.experiments[int(run["info"]["experiment_id"])]
        found = [
            f"{job.name}: {what} {stored[what]!r} instead of {wanted[what]!r}"
            for what in wanted
            if stored[what] != wanted[what]
        ]
        if experiment.name != mapped.experiment_name:
            found.append(f"{job.name}: project {experiment.name} not {mapped.experiment_name}")
        for key, value in mapped.tags.items():
            is_now = run["tags"].get(key)
            if is_now != value and self.untold.get(id_of(run)) != key:
                what = "project " if "another project" in str(is_now) else ""
                found.append(f"{job.name}: {what}tag {key} is {is_now!r}, not {value!r}")
        return found

    def _wrong_versions(self, job: TrainingRun, run: Mapping[str, Any]) -> list[str]:
        mapped = map_run(job)
        marked = [
            each for each in self.model.model_versions() if _tags(each).get(ARN_TAG) == job.mark.arn
        ]
        ours = [each for each in marked if _mark({"tags": _tags(each)}) == _mark_of(job)]
        wanted = 0 if mapped.model is None else 1
        if id_of(run) in self.versions_deleted_by_people:
            wanted = 0
        if len(ours) != wanted:
            return [f"{job.name}: {len(ours)} models (versions {_numbers(ours)})"]
        found = []
        for each in ours:
            assert mapped.model is not None
            description = self.described_by_people.get(id_of(run), mapped.model.version_description)
            if each["run_id"] != id_of(run):
                found.append(f"{job.name}: the model's version is of run {each['run_id']}")
            for what, value in (
                ("name", mapped.model.name),
                ("source", mapped.model.source),
                ("description", description),
            ):
                if each[what] != value:
                    found.append(f"{job.name}: the version's {what} is {each[what]!r}")
            found += [
                f"{job.name}: the version's tag {key} is {_tags(each).get(key)!r}"
                for key, value in mapped.model.tags.items()
                if _tags(each).get(key) != value
            ]
        return found

    def _unmarked(self) -> dict[str, Any]:
        """Everything without a mark of ours, except experiments and models made since."""
        experiments = {
            each["name"]: each.get("tags")
            for each in self.model.experiments()
            if each["name"] in {"project-0", "people's"}
        }
        models = {
            each["name"]: each.get("description")
            for each in self.model.registered_models()
            if each["name"] == "model-0"
        }
        versions = [each for each in self.model.model_versions() if ARN_TAG not in _tags(each)]
        runs = [run for run in self.model.runs() if not _is_marked(run)]
        return {"experiments": experiments, "models": models, "versions": versions, "runs": runs}


class SimulatedClient(MlflowClient):
    """The real client, over the simulated network."""

    def __init__(
        self,
        server: SimulatedMlflow,
        *,
        timeout_seconds: float,
        max_concurrency: int,
        observe: Callable[[str, str], None] = lambda _operation, _result: None,
    ) -> None:
        http: Any = SimulatedHttp(server)
        session = HttpSession(
            HINTS,
            headers={},
            tls=None,
            timeout_seconds=timeout_seconds,
            max_concurrency=max_concurrency,
            client_session=http,
        )
        super().__init__(session, "http://mlflow:5000", observe=observe)


def id_of(run: Mapping[str, Any]) -> str:
    return str(run["info"]["run_id"])


def is_deleted(run: Mapping[str, Any]) -> bool:
    return bool(run["info"]["lifecycle_stage"] == _DELETED)


def _mark(run: Mapping[str, Any]) -> tuple[object, object]:
    return run["tags"].get(ARN_TAG), run["tags"].get(CREATION_TIME_TAG)


def _written(run: Mapping[str, Any]) -> str:
    return str(run["tags"].get(WRITTEN_TAG, ""))


def _mark_of(job: TrainingRun) -> tuple[object, object]:
    return job.mark.arn, job.mark.creation_time


def _is_marked(run: Mapping[str, Any]) -> bool:
    return ARN_TAG in run["tags"]


def _tags(version: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in version.get("tags", ())}


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _content(mapped: MappedRun) -> dict[str, Any]:
    latest: dict[str, tuple[int, int, float]] = {}
    for point in mapped.metrics:
        order = point.step, point.timestamp, point.value
        latest[point.key] = max(order, latest.get(point.key, order))
    return {
        "name": mapped.run_name,
        "status": mapped.status,
        "start": mapped.start_time,
        "end": mapped.end_time,
        "params": dict(mapped.params),
        "metrics": latest,
        "inputs": sorted((each.name, each.digest, each.context) for each in mapped.inputs),
    }


def _stored(run: Mapping[str, Any]) -> dict[str, Any]:
    info = run["info"]
    inputs: Iterable[Any] = run["inputs"].get("dataset_inputs", ())
    return {
        "name": info["run_name"],
        "status": info["status"],
        "start": info["start_time"],
        "end": info.get("end_time"),
        "params": run["params"],
        "metrics": {
            key: (point["step"], point["timestamp"], point["value"])
            for key, point in run["metrics"].items()
        },
        "inputs": sorted(
            (
                each["dataset"]["name"],
                each["dataset"]["digest"],
                _tags(each).get("mlflow.data.context", ""),
            )
            for each in inputs
        ),
    }


def _numbers(versions: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(each["version"]) for each in versions) or "none"


def _named(body: bytes) -> str:
    content = json.loads(body)
    names = ("run_name", "name", "run_id", "version", "status", "key")
    return " ".join(str(content[name]) for name in names if content.get(name))


def _made(body: bytes) -> str:
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    if "run" in content:
        return id_of(content["run"])
    return str(content.get("model_version", {}).get("version") or content.get("error_code") or "")
