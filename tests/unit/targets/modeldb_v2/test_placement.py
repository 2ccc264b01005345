"""Projects and experiments of jobs, through the target."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from daemon.reasons import Reason
from daemon.targets.modeldb_v2 import placement
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from tests.support.modeldb_v2_target import (
    CLOSING,
    CREATE,
    MemoryJournal,
    attributes,
    counts,
    edge_fault,
    job,
    job_fault,
    scene_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
    from tests.support.modeldb_v2_target import TargetScene


async def test_a_crowd_of_cold_jobs_makes_one_project_and_one_experiment(
    scene: TargetScene,
) -> None:
    scene.server.latency_seconds = 0.005
    # A name lock that another job holds is an error: jobs of one process must queue for it.
    locks: set[str] = set()
    done = await asyncio.gather(
        *(scene.sync(f"churn-{n}", journal=MemoryJournal(locks=locks)) for n in range(12))
    )

    assert all(each.created for each in done)
    assert counts(scene.server) == (1, 1, 12)
    assert scene.server.requests["createProject"] == scene.server.requests["createExperiment"] == 1
    assert scene.server.max_concurrent <= 4


async def test_duplicates_of_a_project_and_of_an_experiment_resolve_alike(
    scene: TargetScene, other: TargetScene
) -> None:
    scene.server.faults.overlap_next(2, operation="createProject")
    await asyncio.gather(scene.sync("a"), other.sync("b"))
    projects = scene.server.projects()
    assert len(projects) == 2
    async with scene_of(scene.server) as cold:
        third = await cold.sync("c")

    oldest = min(projects, key=lambda project: (int(project["date_created"]), project["id"]))
    assert third.ids["project_id"] == oldest["id"]


async def test_a_project_that_is_made_meanwhile_is_used(server: ModelDbV2StandIn) -> None:
    class Faster(ModelDbV2Client):
        """Another client creates the same project and experiment right after the lookup."""

        async def create_project(self, fields: Mapping[str, Any]) -> Any:
            await super().create_project({"name": fields["name"]})
            return await super().create_project(fields)

        async def create_experiment(self, fields: Mapping[str, Any]) -> Any:
            await super().create_experiment(fields)
            return await super().create_experiment(fields)

    async with scene_of(server, client=Faster) as scene:
        done = await scene.sync()

    assert done.created
    assert counts(server) == (1, 1, 1)


async def test_a_project_that_another_process_made_under_its_lock_is_used(
    scene: TargetScene, other: TargetScene
) -> None:
    class Queued(MemoryJournal):
        """The lock comes after another process has made what is wanted."""

        @contextlib.asynccontextmanager
        async def name_lock(self, lock_name: str) -> AsyncIterator[None]:
            await other.sync("churn-0")
            async with super().name_lock(lock_name):
                yield

    done = await scene.sync(journal=Queued())

    assert done.created
    assert counts(scene.server) == (1, 1, 2)
    assert scene.server.requests["createProject"] == 1


async def test_a_lock_of_another_process_is_passed_on(scene: TargetScene) -> None:
    journal = MemoryJournal(locks={"modeldb-v2/project/customer-churn"})
    assert (await job_fault(scene.sync(journal=journal))).reason is Reason.NAME_LOCKED

    assert scene.server.requests["createProject"] == 0


async def test_ids_are_not_remembered_without_end(
    scene: TargetScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "REMEMBERED", 2)
    for project in ("a", "b", "c", "c", "b"):
        await scene.sync(f"of-{project}", project_name=project)
    before = scene.server.requests["findProjects"]
    await scene.sync("again", project_name="a")

    # twice for each new one, once for the one forgotten
    assert (before, scene.server.requests["findProjects"]) == (6, 7)


@pytest.mark.parametrize("table", ["projects", "experiments"])
async def test_a_place_that_people_deleted_is_made_again(
    scene: TargetScene, journal: MemoryJournal, table: str
) -> None:
    first = await scene.sync()
    deleted = getattr(scene.server.store, table)
    deleted.delete(next(iter(deleted.all_live())))
    second = await scene.sync("churn-2", journal=journal)
    third = await scene.sync("churn-3")

    assert second.created
    assert second.ids["experiment_id"] != first.ids["experiment_id"]
    assert third.ids["experiment_id"] == second.ids["experiment_id"]
    assert journal.unanswered_writes == 0


async def test_a_place_that_is_always_gone_ends_the_attempt(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.refuse_next(
        99, 404, {"code": 5, "message": "Project not found for given ID"}, operation=CREATE
    )
    fault = await job_fault(scene.sync(journal=journal))

    assert fault.reason is Reason.TARGET_FAULT
    assert "Project not found for given ID" in fault.detail
    assert (scene.server.requests[CREATE], journal.unanswered_writes) == (3, 0)


async def test_the_description_follows_the_tag(scene: TargetScene) -> None:
    await scene.sync("a")
    await scene.sync("b", project_description="Second thoughts")
    calls = Counter(scene.server.requests)
    await scene.sync("c", project_description="Second thoughts")

    [project] = scene.server.projects()
    assert project["description"] == "Second thoughts"
    assert attributes(project)["sagemaker_project_description"] == "Second thoughts"
    assert scene.server.requests - calls == {CREATE: 1}


@pytest.mark.parametrize("warm", [True, False])
async def test_a_description_that_a_person_wrote_stays(
    scene: TargetScene, other: TargetScene, *, warm: bool
) -> None:
    await scene.sync("a")
    scene.server.store.projects.find("name", "customer-churn")[0].row["description"] = (
        "A person's words"
    )
    await (scene if warm else other).sync("b", project_description="Second thoughts")

    assert scene.server.projects()[0]["description"] == "A person's words"


async def test_our_own_attribute_may_have_become_anything(scene: TargetScene) -> None:
    await scene.sync("a")
    row = scene.server.store.projects.find("name", "customer-churn")[0].row
    row["attributes"] = [
        {"key": "sagemaker_project_description", "value": ["a", {"list": 1}]},
        {"key": "project_user", "value": None},
    ]
    done = await scene.sync("b", project_description="Second thoughts")

    assert done.created
    assert scene.server.projects()[0]["description"] == "Who leaves next month"


async def test_an_empty_description_is_filled(scene: TargetScene, other: TargetScene) -> None:
    await scene.sync("a")
    row = scene.server.store.projects.find("name", "customer-churn")[0].row
    row.pop("description")
    row["attributes"] = []
    await other.sync("b")

    assert scene.server.projects()[0]["description"] == "Who leaves next month"
    assert attributes(scene.server.projects()[0]) == {
        "project_user": "amara",
        "sagemaker_project_description": "Who leaves next month",
    }


async def test_a_description_whose_writer_died_half_way_is_still_ours(scene: TargetScene) -> None:
    await scene.sync("a")
    scene.server.faults.refuse_next(1, *CLOSING, operation="updateProjectAttributes")
    second = job("b", project_description="Second thoughts")
    await edge_fault(scene.sync(run=second))
    await scene.sync(run=second)
    await scene.sync("c", project_description="Third thoughts")

    assert scene.server.projects()[0]["description"] == "Third thoughts"


async def test_the_projects_user_follows_the_tag(scene: TargetScene) -> None:
    await scene.sync("a")
    calls = Counter(scene.server.requests)
    await scene.sync("b", project_user="bo")

    assert attributes(scene.server.projects()[0])["project_user"] == "bo"
    assert scene.server.requests - calls == {
        "findProjects": 1,
        "updateProjectAttributes": 1,
        CREATE: 1,
    }


async def test_two_users_of_one_project_do_not_change_it_with_every_job(scene: TargetScene) -> None:
    for number in range(20):
        await scene.sync(f"a-{number}")
        await scene.sync(f"b-{number}", project_user="bo", project_description="As Bo sees it")

    requests = scene.server.requests
    assert requests[CREATE] == 40
    assert (requests["updateProjectDescription"], requests["updateProjectAttributes"]) == (1, 2)
    assert requests["findProjects"] == 3  # twice for the new one


@pytest.mark.parametrize("table", ["projects", "experiments"])
async def test_a_renamed_place_gets_no_more_runs(
    scene: TargetScene, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    first = await scene.sync("a")
    place = getattr(scene.server.store, table)
    [renamed] = place.all_live()
    renamed.row["name"] = "renamed by somebody"
    place.updated(renamed)
    monkeypatch.setattr(placement, "FRESH_SECONDS", 0.0)
    second = await scene.sync("b")
    third = await scene.sync("c")

    word = table.removesuffix("s")
    assert second.ids[f"{word}_id"] != first.ids[f"{word}_id"]
    assert third.ids[f"{word}_id"] == second.ids[f"{word}_id"]


async def test_a_project_that_cannot_be_brought_up_to_date_costs_no_run(scene: TargetScene) -> None:
    await scene.sync("a")
    scene.server.faults.refuse_next(
        1, 400, {"code": 3, "message": "no"}, operation="updateProjectDescription"
    )
    done = await scene.sync("b", project_description="Second thoughts")

    assert done.created
    assert any("updateProjectDescription" in note for note in done.notes)
