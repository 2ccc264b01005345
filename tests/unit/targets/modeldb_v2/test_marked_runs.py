"""Lookup of runs by their mark and deletion of duplicates, through the target."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from daemon.reasons import Reason
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from tests.support.modeldb_v2_target import (
    CLOSING,
    CREATE,
    CREATED,
    MemoryJournal,
    duplicate,
    edge_fault,
    job,
    run_ids,
    scene_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.targets.modeldb_v2.entities import Run
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
    from tests.support.modeldb_v2_target import TargetScene


async def test_creates_that_overlap_are_healed_by_the_next_look(
    scene: TargetScene, other: TargetScene, journal: MemoryJournal
) -> None:
    # both have the place in their caches; their checkpoints are separate
    for each in (scene, other):
        await each.sync("warm-up")
    scene.server.faults.overlap_next(2, operation=CREATE)
    both = await asyncio.gather(scene.sync(), other.sync())
    assert both[0].ids["run_id"] != both[1].ids["run_id"]

    # the create ends in a 409, and the lookup by name in "Multiple …"
    done = await scene.sync(journal=journal)

    left = [run["id"] for run in scene.server.runs() if run["name"] == "churn-1"]
    assert (done.created, done.healed, left) == (False, 1, [done.ids["run_id"]])
    # with two runs there may be a third in flight
    assert (journal.unanswered_writes, scene.settling.slept) == (0, [30.0])


async def test_the_oldest_stays_and_within_one_millisecond_the_lowest_id(
    scene: TargetScene,
) -> None:
    first = (await scene.sync()).ids["run_id"]
    same = [duplicate(scene.server, first) for _ in range(3)]
    duplicate(scene.server, first, later_ms=1)
    found = await scene.target.find(job().mark)

    assert found is not None
    assert (found.healed, run_ids(scene.server)) == (4, {min(first, *same)})
    assert found.ids["run_id"] == min(first, *same)


async def test_two_healers_choose_alike(scene: TargetScene, other: TargetScene) -> None:
    first = (await scene.sync()).ids["run_id"]
    duplicate(scene.server, first)
    scene.server.faults.overlap_next(2, operation="findExperimentRuns")
    scene.server.faults.overlap_next(2, operation="deleteExperimentRuns")
    one, two = await asyncio.gather(scene.target.find(job().mark), other.target.find(job().mark))

    assert one is not None
    assert two is not None
    assert one.ids == two.ids
    assert one.healed + two.healed >= 1
    assert len(scene.server.runs()) == 1


async def test_duplicates_that_cannot_be_deleted_leave_the_job_open(scene: TargetScene) -> None:
    first = (await scene.sync()).ids["run_id"]
    duplicate(scene.server, first)
    journal = MemoryJournal(unanswered_writes=2)
    scene.server.faults.refuse_next(1, *CLOSING, operation="deleteExperimentRuns")
    assert (await edge_fault(scene.sync(journal=journal))).reason is Reason.UNAVAILABLE
    assert journal.unanswered_writes == 2
    done = await scene.sync(journal=journal)

    assert (done.healed, len(scene.server.runs()), journal.unanswered_writes) == (1, 1, 0)


async def test_only_what_carries_the_mark_is_ever_deleted(server: ModelDbV2StandIn) -> None:
    class EverythingMatches(ModelDbV2Client):
        """The server ignores the conditions."""

        async def find_experiment_runs(self, equal: Mapping[str, str]) -> Sequence[Run]:
            del equal
            return await super().find_experiment_runs({})

    async with scene_of(server, client=EverythingMatches) as scene:
        kept = await scene.sync()
        others = [
            await scene.sync("churn-2"),
            await scene.sync(created=CREATED + timedelta(seconds=1)),
            await scene.sync(account="999999999999", model_name="other"),
        ]
        duplicate(server, kept.ids["run_id"])
        found = await scene.target.find(job().mark)

    assert found is not None
    assert found.healed == 1
    assert {other.ids["run_id"] for other in others} < run_ids(server)


async def test_find(scene: TargetScene) -> None:
    assert await scene.target.find(job().mark) is None
    done = await scene.sync()
    found = await scene.target.find(job().mark)
    scene.server.faults.database_down = True
    fault = await edge_fault(scene.target.find(job().mark))

    assert found == replace(done, created=False)
    assert fault.reason is Reason.UNAVAILABLE


async def test_find_waits_for_creates_without_an_answer_and_heals_what_they_left(
    scene: TargetScene,
) -> None:
    done = await scene.sync()
    await scene.target.find(job().mark)
    assert scene.settling.slept == []

    async def late() -> None:
        duplicate(scene.server, done.ids["run_id"], later_ms=1)

    scene.settling.during = late
    found = await scene.target.find(job().mark, unanswered_writes=1)

    assert found == replace(done, created=False, healed=1)
    assert found.complete
    assert scene.settling.slept == [30.0]
    assert run_ids(scene.server) == {done.ids["run_id"]}
