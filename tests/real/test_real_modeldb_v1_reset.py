"""Real ModelDB V1 servers whose SQLite file or MongoDB is deleted, and the stand-in beside them."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from daemon.errors import EdgeFault
from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.mapping import map_job
from tests.real.modeldb_v1_lab import LAB, lab_server, wrong
from tests.support.daemon_process import Job, daemon_scene, jobs_named
from tests.support.modeldb_v1_plain_client import PlainClient
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import full_job, target_on
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(
        not LAB, reason="MODELDB_V1_LAB names no control script of ModelDB V1 servers"
    ),
    pytest.mark.timeout(300),
]


class Server(Protocol):
    """A real one, or the stand-in."""

    @property
    def port(self) -> int: ...

    async def forget_sqlite(self) -> None: ...


async def store(client: PlainClient, name: str, metadata: str | None) -> int:
    """A run with a model, as another client writes it; the model's number."""
    job = map_job(full_job(name), metadata_store=True)
    project = await client.result("storeProjectEvent", pr=requests.project_event(job))
    experiment = await client.result(
        "storeExperimentEvent", er=requests.default_experiment_event(project["projectId"])
    )
    run = await client.result(
        "storeExperimentRunEvent", er=requests.run_event(experiment["experimentId"], job)
    )
    fit = requests.fit_event(run["experimentRunId"], job)
    fit.metadata = job.metadata if metadata is None else metadata
    model_id: int = (await client.result("storeFitEvent", fe=fit))["modelId"]
    return model_id


async def documents(client: PlainClient, *model_ids: int) -> list[bool]:
    """Whether there is a document of each number."""
    return [
        await client.result(
            "createOrUpdateScalarField",
            modelId=each,
            key="MODELDB_model_id",
            value=str(each),
            valueType="int",
        )
        for each in model_ids
    ]


async def shown(client: PlainClient, run_id: int) -> list[Any]:
    """Whose metadata the run's models show."""
    details = await client.result("getExperimentRunDetails", experimentRunId=run_id)
    found = [json.loads(each["metadata"] or "null") for each in details["modelResponses"]]
    return [each and each.get("JOB", {}).get("name") for each in found]


async def what_is_seen(server: Server) -> dict[str, Any]:
    """Of a server whose SQLite file is deleted while MongoDB keeps its documents."""
    seen: dict[str, Any] = {}
    async with PlainClient(server.port) as client:
        seen["stored"] = [
            await store(client, "old-1", None),
            await store(client, "old-2", "{}"),
            await store(client, "old-3", None),
        ]
        before = await client.result("getExperimentRunDetails", experimentRunId=1)
        seen["have documents"] = await documents(client, 1, 2, 3, 4)
        after = await client.result("getExperimentRunDetails", experimentRunId=1)
        assert before == after, "a number that is set to what it is changes nothing"
    await server.forget_sqlite()
    async with PlainClient(server.port) as client:
        seen["projects"] = await client.result("getProjectIds", keyValuePairs={})
        seen["documents"] = await client.result("getModelIds", keyValuePairs={})
        seen["still have"] = await documents(client, 1, 2, 3, 4)
        seen["model 1"] = await client.error("computeModelAncestry", modelId=1)
        seen["new"] = [await store(client, "new-1", None), await store(client, "new-2", None)]
        seen["shown"] = [await shown(client, 1), await shown(client, 2)]
        seen["documents afterwards"] = await client.result("getModelIds", keyValuePairs={})
        arn = full_job("new-1").mark.arn
        seen["found"] = await client.result("getModelIds", keyValuePairs={"JOB.arn": arn})
        for value, kind in (("x", "int"), ("1", "byte")):
            seen[kind] = await client.error(
                "createOrUpdateScalarField", modelId=1, key="k", value=value, valueType=kind
            )
    return seen


async def test_the_stand_in_forgets_its_sqlite_file_as_the_server_does() -> None:
    async with lab_server(mongo=True) as real, ModelDbV1StandIn() as stand_in:
        seen = await what_is_seen(real)
        assert seen == await what_is_seen(stand_in)
    assert seen["still have"] == [True, True, True, False]
    assert seen["shown"] == [["old-1"], [None]], "the documents of before"


async def test_a_deleted_sqlite_file_holds_until_the_documents_are_gone(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    old, new = jobs_named("old", 3), jobs_named("new", 3)
    async with (
        lab_server(mongo=True) as server,
        daemon_scene(moto_endpoint, server.target, tmp_path) as scene,
    ):
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        scene.finish_jobs([*old, *new])
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([job.event for job in old])
        await daemon.outcomes(3, outcome="synced")
        await server.forget_sqlite()
        await scene.send([job.event for job in [*old, *new]])
        await daemon.logged(
            lambda line: line["event"] == "MongoDB of ModelDB V1 is of another database"
        )
        assert server.runs() == []
        await server.forget_documents()
        await daemon.outcomes(6, outcome="synced", seconds=120)
        await daemon.outcomes(3, outcome="duplicate", reason="already_synced")
        await scene.drained()
        assert [line for line in daemon.log if "ModelDB V1 was reset" in line["event"]]
        assert wrong(new, server) == []
        async with PlainClient(server.port) as client:
            names = [name for run in (1, 2, 3) for name in await shown(client, run)]
        assert sorted(names) == sorted(job.name for job in new)
        assert await scene.dead_letters() == []
        assert await daemon.stop() == 0


async def test_a_mongodb_that_is_exchanged_under_a_running_server_is_noticed_at_the_next_model(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """A document of somebody else at the number that the next model gets."""
    first, second = Job("first"), Job("second")
    async with (
        lab_server(mongo=True) as server,
        daemon_scene(moto_endpoint, server.target, tmp_path) as scene,
    ):
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        scene.finish_jobs([first, second])
        async with PlainClient(server.port) as client:
            await store(client, "others-1", "{}")
            await store(client, "others-2", "{}")
        await server.forget_sqlite()
        async with PlainClient(server.port) as client:
            job = map_job(full_job("others"), metadata_store=True)
            await client.result("storeProjectEvent", pr=requests.project_event(job))
        async with target_on(server.port, metadata_store=True) as target:
            with pytest.raises(EdgeFault, match="MongoDB is of another database"):
                await target.sync(full_job("refused"), MemoryJournal())
        await server.forget_documents()
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([first.event])
        await daemon.outcomes(1, outcome="synced")
        async with PlainClient(server.port) as client:  # moves the document of model 1 to model 2
            assert await client.result(
                "createOrUpdateScalarField",
                modelId=1,
                key="MODELDB_model_id",
                value="2",
                valueType="int",
            )
        await scene.send([second.event])
        (held,) = await daemon.outcomes(1, outcome="held", reason="unavailable")
        assert f"those of {first.arn.lower()}" in str(held)
        await server.forget_documents()
        await daemon.outcomes(2, outcome="synced", seconds=120)
        await scene.drained()
        assert wrong([first, second], server) == []
        async with PlainClient(server.port) as client:
            assert await shown(client, 2) == ["second"]
        assert await daemon.stop() == 0
