"""The ModelDB V2 target against the stand-in: exactly one run for each job, whatever becomes of the
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from daemon.checkpoint.ports import LeaseLost
from daemon.demo.modeldb_v2.store import new_id
from daemon.errors import EdgeFault, JobFault, JobRefused, SetupFault
from daemon.outcome import Edge, Reason
from daemon.targets.modeldb_v2 import placement
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.mapping import distinct_run_name
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.modeldb_v2.target import open_modeldb_v2
from tests.support.modeldb_v2_target import CREATED, MemoryJournal, Settling, job, target_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
    from pathlib import Path

    from daemon.targets.modeldb_v2.entities import Run
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

CREATE = "createExperimentRun"


async def edge_fault(work: Awaitable[object]) -> EdgeFault:
    with pytest.raises(EdgeFault) as caught:
        await work
    assert caught.value.edge is Edge.TARGET
    return caught.value


async def job_fault(work: Awaitable[object]) -> JobFault:
    with pytest.raises(JobFault) as caught:
        await work
    return caught.value


async def refusal(work: Awaitable[object]) -> JobRefused:
    with pytest.raises(JobRefused) as caught:
        await work
    assert caught.value.reason is Reason.TARGET_REFUSED
    return caught.value


def attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in row["attributes"]}


def duplicate(server: ModelDbV2StandIn, run_id: str, *, later_ms: int = 0, **changed: Any) -> str:
    """Puts a copy of a run into the server, as an overlapping create does. Returns its id."""
    original = server.store.runs.by_id(run_id)
    assert original is not None
    row = copy.deepcopy(original.row) | {"id": new_id()} | changed
    row["date_created"] = str(int(row["date_created"]) + later_ms)
    server.store.runs.insert(row)
    return str(row["id"])


def ids_of_runs(server: ModelDbV2StandIn) -> set[str]:
    return {row["id"] for row in server.runs()}


# One job
# ---


async def test_a_new_job_gets_its_project_experiment_and_run(server: ModelDbV2StandIn) -> None:
    journal = MemoryJournal()
    async with target_of(server.url, ui_url="http://ui:3000/") as target:
        done = await target.sync(job(), journal)

    [project], [experiment], [run] = server.projects(), server.experiments(), server.runs()
    assert done.created
    assert done.ids == {
        "project_id": project["id"],
        "experiment_id": experiment["id"],
        "run_id": run["id"],
        "project": "customer-churn",
        "experiment": "churn-xgb",
        "run": "churn-1",
        "run_url": f"http://ui:3000/personal/projects/{project['id']}/exp-runs/{run['id']}",
    }
    assert (project["name"], project["description"]) == ("customer-churn", "Who leaves next month")
    assert attributes(project) == {
        "project_user": "amara",
        "sagemaker_project_description": "Who leaves next month",
    }
    assert (experiment["name"], experiment["project_id"]) == ("churn-xgb", project["id"])
    assert (run["name"], run["project_id"], run["experiment_id"]) == (
        "churn-1",
        project["id"],
        experiment["id"],
    )
    assert (
        attributes(run)["sagemaker_training_job_arn"]
        == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"
    )
    assert attributes(run)["sagemaker_creation_time"] == "2025-11-20T08:40:00.050Z"
    assert run["metrics"] == [{"key": "train/auc", "value": 0.99}]
    assert journal.begun == [f"modeldb-v2/run/{experiment['id']}/churn-1"]
    assert journal.locked == [
        "modeldb-v2/project/customer-churn",
        f"modeldb-v2/experiment/{project['id']}/churn-xgb",
    ]
    assert journal.unanswered_writes == 0


async def test_links_name_the_workspace(server: ModelDbV2StandIn) -> None:
    async with target_of(
        server.url, ui_url="https://verta.example.com", workspace="team"
    ) as target:
        done = await target.sync(job(), MemoryJournal())

    assert done.ids["run_url"].startswith("https://verta.example.com/team/projects/")


async def test_no_links_without_a_front_end(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        assert "run_url" not in (await target.sync(job(), MemoryJournal())).ids


async def test_a_second_job_of_a_known_project_and_model_costs_one_call(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        await target.sync(job(), MemoryJournal())
        before = sum(server.requests.values())
        await target.sync(job("churn-2"), MemoryJournal())

    assert sum(server.requests.values()) - before == 1
    assert len(server.runs()) == 2


async def test_notes_tell_what_was_shortened(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        done = await target.sync(job(model_name="m" * 300), MemoryJournal())

    assert any("shortened" in note for note in done.notes)
    assert len(server.experiments()[0]["name"]) == 250


# The job is there already
# ---


async def test_a_job_that_comes_again_is_found_and_nothing_is_written_over(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        stored = server.store.run(first.ids["run_id"])
        stored.row["description"] = "edited by a person"
        journal = MemoryJournal()
        again = await target.sync(job(), journal)

    assert (again.created, again.ids) == (False, first.ids)
    assert [run["description"] for run in server.runs()] == ["edited by a person"]
    assert journal.unanswered_writes == 0


async def test_a_lost_checkpoint_and_a_changed_tag_make_no_second_run(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
    async with target_of(server.url) as target:
        again = await target.sync(
            job(project_name="another project"), MemoryJournal(look_up_first=True)
        )

    assert (again.created, again.ids) == (False, first.ids)
    assert (len(server.projects()), len(server.runs())) == (1, 1)


async def test_a_run_that_a_person_renamed_is_found_by_its_mark(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        server.store.run(first.ids["run_id"]).row["name"] = "the good one"
        again = await target.sync(job(), MemoryJournal(look_up_first=True))

    assert (again.ids["run_id"], again.ids["run"], again.detail) == (
        first.ids["run_id"],
        "the good one",
        "",
    )


async def test_a_job_that_is_surely_new_is_not_looked_up(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        await target.sync(job(), MemoryJournal())

    assert server.requests["findExperimentRuns"] == 0


async def test_a_run_that_is_found_counts_even_when_its_project_cannot_be_named(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        server.faults.refuse_next(
            1, 500, {"code": 13, "message": "Internal server error"}, operation="getProjectById"
        )
        again = await target.sync(job(), MemoryJournal())

    assert again.ids == {
        key: value for key, value in first.ids.items() if key not in {"project", "experiment"}
    }


async def test_a_run_that_is_deleted_between_the_refusal_and_the_look_is_left_to_the_next_attempt(
    server: ModelDbV2StandIn,
) -> None:
    journal = MemoryJournal()
    async with target_of(server.url) as target:
        server.faults.refuse_next(
            1,
            409,
            {"code": 6, "message": "ExperimentRun already exists in database"},
            operation=CREATE,
        )
        fault = await job_fault(target.sync(job(), journal))
        done = await target.sync(job(), journal)

    assert (fault.reason, done.created, len(server.runs())) == (Reason.TARGET_FAULT, True, 1)


# A name that belongs to another
# ---


async def test_a_job_of_the_same_name_gets_a_distinct_name(server: ModelDbV2StandIn) -> None:
    first, second = job(), job(created=CREATED + timedelta(days=30))
    async with target_of(server.url) as target:
        await target.sync(first, MemoryJournal())
        journal = MemoryJournal()
        done = await target.sync(second, journal)
        again = await target.sync(second, MemoryJournal())

    name = distinct_run_name("churn-1", second.mark)
    assert {run["name"] for run in server.runs()} == {"churn-1", name}
    assert (done.created, done.ids["run"], journal.unanswered_writes) == (True, name, 0)
    assert "because another run has the name 'churn-1'" in done.detail
    assert [lock.rpartition("/")[2] for lock in journal.begun] == ["churn-1", name]
    assert (again.created, again.ids) == (False, done.ids)


async def test_a_run_without_a_mark_is_somebody_elses(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        done = await target.sync(job(), MemoryJournal())
        server.store.run(done.ids["run_id"]).row["attributes"] = []
        server.store.run(done.ids["run_id"]).row["description"] = "mine"
        other = await target.sync(job(), MemoryJournal())

    assert other.created
    assert other.ids["run"] == distinct_run_name("churn-1", job().mark)
    assert server.store.run(done.ids["run_id"]).row["description"] == "mine"


async def test_a_job_whose_both_names_are_taken_is_refused(server: ModelDbV2StandIn) -> None:
    second = job(created=CREATED + timedelta(days=30))
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        duplicate(server, first.ids["run_id"], name=distinct_run_name("churn-1", second.mark))
        journal = MemoryJournal()
        refused = await refusal(target.sync(second, journal))

    assert "rename or delete" in refused.detail
    assert journal.unanswered_writes == 0


async def test_duplicates_of_another_job_are_left_alone(server: ModelDbV2StandIn) -> None:
    second = job(created=CREATED + timedelta(days=30))
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        duplicate(server, first.ids["run_id"])
        done = await target.sync(second, MemoryJournal())

    assert done.ids["run"] == distinct_run_name("churn-1", second.mark)
    assert len(server.runs()) == 3


# Answers that are lost
# ---


async def test_an_answer_lost_after_the_create(server: ModelDbV2StandIn) -> None:
    settling = Settling()
    journal = MemoryJournal()
    async with target_of(server.url, settling) as target:
        server.faults.lose_next_answers(1, operation=CREATE)
        fault = await edge_fault(target.sync(job(), journal))
        assert (fault.reason, journal.unanswered_writes) == (Reason.UNREACHABLE, 1)

        done = await target.sync(job(), journal)

    assert (done.created, len(server.runs()), server.requests[CREATE]) == (False, 1, 1)
    # one create, one run: nothing more can come
    assert (journal.unanswered_writes, settling.slept) == (0, [])


async def test_an_unanswered_create_is_asked_about_before_anything_else_is_made(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        done = await target.sync(job(project_name="renamed"), MemoryJournal(unanswered_writes=1))

    assert (done.created, done.ids) == (False, first.ids)
    assert (len(server.projects()), len(server.runs())) == (1, 1)


async def test_a_create_that_was_lost_on_its_way(server: ModelDbV2StandIn) -> None:
    settling = Settling()
    journal = MemoryJournal()
    async with target_of(server.url, settling) as target:
        server.faults.refuse_next(
            1, 503, {"code": 14, "message": "transport is closing"}, operation=CREATE
        )
        fault = await edge_fault(target.sync(job(), journal))
        assert (fault.reason, journal.unanswered_writes) == (Reason.UNAVAILABLE, 1)

        done = await target.sync(job(), journal)

    assert (done.created, len(server.runs())) == (True, 1)
    # the first create might still have come
    assert (journal.unanswered_writes, settling.slept) == (0, [30.0])
    assert server.requests["findExperimentRuns"] == 2


async def test_no_answer_in_time(server: ModelDbV2StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[asyncio.Timeout] = []
    new_deadline = asyncio.timeout

    def deadline(seconds: float | None) -> asyncio.Timeout:
        made = new_deadline(seconds)
        if seconds == 77.0:
            deadlines.append(made)
        return made

    monkeypatch.setattr(asyncio, "timeout", deadline)
    journal = MemoryJournal()
    async with target_of(server.url, timeout_seconds=77.0) as target:
        server.faults.delay_next(60.0, operation=CREATE)
        syncing = asyncio.create_task(edge_fault(target.sync(job(), journal)))
        await server.wait_for_requests(CREATE)
        deadlines[-1].reschedule(asyncio.get_running_loop().time())
        fault = await syncing

    assert (fault.reason, journal.unanswered_writes, server.requests[CREATE]) == (
        Reason.UNREACHABLE,
        1,
        1,
    )


async def test_a_create_that_is_carried_out_late_is_healed(server: ModelDbV2StandIn) -> None:
    """The project's tag changes meanwhile, so that not even the server's own check of the name sees
    the duplicate coming.
    """

    class Late(ModelDbV2Client):
        late: ClassVar[list[Mapping[str, Any]]] = []

        async def create_experiment_run(self, fields: Mapping[str, Any]) -> Run:
            if not self.late:
                self.late.append(fields)
                raise ApiError(
                    ApiErrorKind.TIMEOUT, CREATE, "no answer within 30 s", outcome_unknown=True
                )
            return await super().create_experiment_run(fields)

    settling = Settling()
    journal = MemoryJournal()
    async with (
        target_of(server.url, settling, client=Late) as target,
        target_of(server.url) as other,
    ):
        assert (await edge_fault(target.sync(job(), journal))).reason is Reason.UNREACHABLE
        settling.during = lambda: other._client.create_experiment_run(Late.late[0])
        done = await target.sync(job(project_name="renamed"), journal)

    assert settling.slept == [30.0]
    [run] = server.runs()
    assert (done.created, done.healed, done.ids["run_id"]) == (True, 1, run["id"])
    assert done.ids["project"] == "renamed"
    assert journal.unanswered_writes == 0


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_500_that_says_nothing_is_asked_about_and_tried_again(
    server: ModelDbV2StandIn, *, carried_out: bool
) -> None:
    class DeadConnection(ModelDbV2Client):
        failures = 1

        async def create_experiment_run(self, fields: Mapping[str, Any]) -> Run:
            if self.failures:
                self.failures -= 1
                if carried_out:
                    await super().create_experiment_run(fields)
                raise ApiError(
                    ApiErrorKind.BARE_500,
                    CREATE,
                    "500 code 2: no text",
                    status=500,
                    code=2,
                    outcome_unknown=True,
                )
            return await super().create_experiment_run(fields)

    settling = Settling()
    journal = MemoryJournal()
    async with target_of(server.url, settling, client=DeadConnection) as target:
        done = await target.sync(job(), journal)

    assert len(server.runs()) == 1
    assert done.created is not carried_out
    assert server.requests["findExperimentRuns"] == (1 if carried_out else 2)
    assert (journal.unanswered_writes, settling.slept) == (0, [] if carried_out else [30.0])


async def test_a_500_that_says_nothing_three_times_is_this_jobs_fault(
    server: ModelDbV2StandIn,
) -> None:
    journal = MemoryJournal()
    async with target_of(server.url) as target:
        server.faults.refuse_next(9, 500, {"code": 2}, operation=CREATE)
        fault = await job_fault(target.sync(job(), journal))

    assert fault.reason is Reason.TARGET_FAULT
    assert (server.requests[CREATE], journal.unanswered_writes) == (3, 3)
    assert server.requests["findExperimentRuns"] == 2  # before each further create


async def test_reads_that_end_in_a_500_that_says_nothing_are_repeated(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        for operation in (
            "findExperimentRuns",
            "findProjects",
            "createProject",
            "findExperiments",
            "createExperiment",
        ):
            server.faults.refuse_next(1, 500, {"code": 2}, operation=operation)
        done = await target.sync(job(), MemoryJournal(look_up_first=True))

    assert done.created
    assert (len(server.projects()), len(server.experiments()), len(server.runs())) == (1, 1, 1)


async def test_several_unanswered_creates_are_waited_for_even_when_one_run_is_found(
    server: ModelDbV2StandIn,
) -> None:
    settling = Settling()
    async with target_of(server.url, settling) as target:
        first = await target.sync(job(), MemoryJournal())

        async def another_comes() -> None:
            duplicate(server, first.ids["run_id"], later_ms=5)

        settling.during = another_comes
        journal = MemoryJournal(unanswered_writes=2)
        done = await target.sync(job(), journal)

    assert settling.slept == [30.0]
    assert (done.created, done.healed, ids_of_runs(server)) == (False, 1, {first.ids["run_id"]})
    assert journal.unanswered_writes == 0


async def test_a_run_that_vanishes_while_it_settles_is_not_reported_as_there(
    server: ModelDbV2StandIn,
) -> None:
    settling = Settling()
    async with target_of(server.url, settling) as target:

        async def a_person_deletes_it() -> None:
            server.store.runs.delete(server.store.run(server.runs()[0]["id"]))

        settling.during = a_person_deletes_it
        journal = MemoryJournal(unanswered_writes=1)
        fault = await job_fault(target.sync(job(), journal))
        assert (fault.reason, journal.unanswered_writes) == (Reason.TARGET_FAULT, 1)

        settling.during = None
        assert (await target.sync(job(), journal)).created

    assert len(server.runs()) == 1


async def test_an_outage_while_it_settles_leaves_the_job_open(server: ModelDbV2StandIn) -> None:
    settling = Settling()
    journal = MemoryJournal(unanswered_writes=1)
    async with target_of(server.url, settling) as target:

        async def the_database_goes() -> None:
            server.faults.database_down = True

        settling.during = the_database_goes
        assert (await edge_fault(target.sync(job(), journal))).reason is Reason.UNAVAILABLE
        assert journal.unanswered_writes == 1

        server.faults.clear()
        settling.during = None
        done = await target.sync(job(), journal)

    assert (done.created, len(server.runs()), journal.unanswered_writes) == (False, 1, 0)


async def test_a_connection_that_is_refused_was_surely_not_used(server: ModelDbV2StandIn) -> None:
    journal = MemoryJournal()
    async with target_of(server.url) as target:
        await target.sync(job("warm-up"), MemoryJournal())
        await server.stop()
        await edge_fault(target.probe())  # ends the idle connection
        fault = await edge_fault(target.sync(job(), journal))

    assert (fault.reason, fault.curable) == (Reason.UNREACHABLE, True)
    assert (len(journal.begun), journal.unanswered_writes) == (1, 0)


async def test_a_cancelled_create_stays_unanswered(server: ModelDbV2StandIn) -> None:
    journal = MemoryJournal()
    async with target_of(server.url) as target:
        server.faults.delay_next(60.0, operation=CREATE)
        syncing = asyncio.create_task(target.sync(job(), journal))
        await server.wait_for_requests(CREATE)
        syncing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await syncing

    assert journal.unanswered_writes == 1


async def test_nothing_is_sent_without_the_journals_leave(server: ModelDbV2StandIn) -> None:
    journal = MemoryJournal()
    journal.refusal = LeaseLost("arn")
    async with target_of(server.url) as target:
        with pytest.raises(LeaseLost):
            await target.sync(job(), journal)

    assert server.requests[CREATE] == 0


# Duplicates
# ---


async def test_creates_that_overlap_are_healed_by_the_next_look(server: ModelDbV2StandIn) -> None:
    settling = Settling()
    async with target_of(server.url, settling) as one, target_of(server.url) as two:
        # both know the place; their checkpoints know nothing of each other
        for target in (one, two):
            await target.sync(job("warm-up"), MemoryJournal())
        server.faults.overlap_next(2, operation=CREATE)
        both = await asyncio.gather(
            one.sync(job(), MemoryJournal()), two.sync(job(), MemoryJournal())
        )
        assert both[0].ids["run_id"] != both[1].ids["run_id"]

        journal = MemoryJournal()
        # its create meets a 409, and the look by name "Multiple …"
        done = await one.sync(job(), journal)

    left = [run["id"] for run in server.runs() if run["name"] == "churn-1"]
    assert (done.created, done.healed, left) == (False, 1, [done.ids["run_id"]])
    # where two are, a third may be under way
    assert (journal.unanswered_writes, settling.slept) == (0, [30.0])


async def test_the_oldest_stays_and_within_one_millisecond_the_lowest_id(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = (await target.sync(job(), MemoryJournal())).ids["run_id"]
        same = [duplicate(server, first) for _ in range(3)]
        duplicate(server, first, later_ms=1)
        found = await target.find(job().mark)

    assert found is not None
    assert (found.healed, ids_of_runs(server)) == (4, {min(first, *same)})
    assert found.ids["run_id"] == min(first, *same)


async def test_two_healers_choose_alike(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as one, target_of(server.url) as two:
        first = (await one.sync(job(), MemoryJournal())).ids["run_id"]
        duplicate(server, first)
        server.faults.overlap_next(2, operation="findExperimentRuns")
        server.faults.overlap_next(2, operation="deleteExperimentRuns")
        found = await asyncio.gather(one.find(job().mark), two.find(job().mark))

    assert (
        [each.ids for each in found if each is not None] == [found[0].ids] * 2
        if found[0]
        else False
    )
    assert sum(each.healed for each in found if each is not None) >= 1
    assert len(server.runs()) == 1


async def test_duplicates_that_cannot_be_deleted_leave_the_job_open(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        first = (await target.sync(job(), MemoryJournal())).ids["run_id"]
        duplicate(server, first)
        journal = MemoryJournal(unanswered_writes=2)
        server.faults.refuse_next(
            1,
            503,
            {"code": 14, "message": "transport is closing"},
            operation="deleteExperimentRuns",
        )
        assert (await edge_fault(target.sync(job(), journal))).reason is Reason.UNAVAILABLE
        assert journal.unanswered_writes == 2
        done = await target.sync(job(), journal)

    assert (done.healed, len(server.runs()), journal.unanswered_writes) == (1, 1, 0)


async def test_only_what_carries_the_mark_is_ever_deleted(server: ModelDbV2StandIn) -> None:
    class EverythingMatches(ModelDbV2Client):
        """As if the server did not know the conditions."""

        async def find_experiment_runs(self, equal: Mapping[str, str]) -> Sequence[Run]:
            del equal
            return await super().find_experiment_runs({})

    async with target_of(server.url, client=EverythingMatches) as target:
        kept = await target.sync(job(), MemoryJournal())
        others = [
            await target.sync(each, MemoryJournal())
            for each in (
                job("churn-2"),
                job(created=CREATED + timedelta(seconds=1)),
                job(account="999999999999", model_name="other"),
            )
        ]
        duplicate(server, kept.ids["run_id"])
        found = await target.find(job().mark)

    assert found is not None
    assert found.healed == 1
    assert {other.ids["run_id"] for other in others} < ids_of_runs(server)


async def test_find(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        assert await target.find(job().mark) is None
        done = await target.sync(job(), MemoryJournal())
        found = await target.find(job().mark)
        server.faults.database_down = True
        fault = await edge_fault(target.find(job().mark))

    assert found == replace(done, created=False)
    assert fault.reason is Reason.UNAVAILABLE


async def test_find_waits_for_creates_without_an_answer_and_heals_what_they_left(
    server: ModelDbV2StandIn,
) -> None:
    settling = Settling()
    async with target_of(server.url, settling) as target:
        done = await target.sync(job(), MemoryJournal())
        await target.find(job().mark)
        assert settling.slept == []

        async def late() -> None:
            duplicate(server, done.ids["run_id"], later_ms=1)

        settling.during = late
        found = await target.find(job().mark, unanswered_writes=1)

    assert found == replace(done, created=False, healed=1)
    assert found.complete
    assert settling.slept == [30.0]
    assert ids_of_runs(server) == {done.ids["run_id"]}


# Projects and experiments
# ---


async def test_a_crowd_of_cold_jobs_makes_one_project_and_one_experiment(
    server: ModelDbV2StandIn,
) -> None:
    server.latency_seconds = 0.005
    # taken by another job of this process: an error, so they must queue before they ask for it
    locks: set[str] = set()
    async with target_of(server.url) as target:
        done = await asyncio.gather(
            *(target.sync(job(f"churn-{n}"), MemoryJournal(locks=locks)) for n in range(12))
        )

    assert all(each.created for each in done)
    assert (len(server.projects()), len(server.experiments()), len(server.runs())) == (1, 1, 12)
    assert server.requests["createProject"] == server.requests["createExperiment"] == 1
    assert server.max_concurrent <= 4


async def test_twins_of_a_project_and_of_an_experiment_resolve_alike(
    server: ModelDbV2StandIn,
) -> None:
    async with (
        target_of(server.url) as one,
        target_of(server.url) as two,
        target_of(server.url) as three,
    ):
        server.faults.overlap_next(2, operation="createProject")
        await asyncio.gather(
            one.sync(job("a"), MemoryJournal()), two.sync(job("b"), MemoryJournal())
        )
        assert len(server.projects()) == 2
        third = await three.sync(job("c"), MemoryJournal())

    oldest = min(
        server.projects(), key=lambda project: (int(project["date_created"]), project["id"])
    )
    assert third.ids["project_id"] == oldest["id"]


async def test_a_project_that_is_made_meanwhile_is_taken(server: ModelDbV2StandIn) -> None:
    class Faster(ModelDbV2Client):
        """Somebody creates the same project and experiment right after this client has looked for
        them.
        """

        async def create_project(self, fields: Mapping[str, Any]) -> Any:
            await super().create_project({"name": fields["name"]})
            return await super().create_project(fields)

        async def create_experiment(self, fields: Mapping[str, Any]) -> Any:
            await super().create_experiment(fields)
            return await super().create_experiment(fields)

    async with target_of(server.url, client=Faster) as target:
        done = await target.sync(job(), MemoryJournal())

    assert done.created
    assert (len(server.projects()), len(server.experiments())) == (1, 1)


async def test_a_project_that_another_process_made_before_it_gave_its_lock_back_is_taken(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as one, target_of(server.url) as other:

        class Queued(MemoryJournal):
            """The lock comes after another process has made what is wanted."""

            @contextlib.asynccontextmanager
            async def name_lock(self, lock_name: str) -> AsyncIterator[None]:
                await other.sync(job("churn-0"), MemoryJournal())
                async with super().name_lock(lock_name):
                    yield

        done = await one.sync(job(), Queued())

    assert done.created
    assert (
        len(server.projects()),
        len(server.experiments()),
        server.requests["createProject"],
    ) == (1, 1, 1)


async def test_a_lock_of_another_process_is_passed_on(server: ModelDbV2StandIn) -> None:
    journal = MemoryJournal(locks={"modeldb-v2/project/customer-churn"})
    async with target_of(server.url) as target:
        assert (await job_fault(target.sync(job(), journal))).reason is Reason.NAME_LOCKED

    assert server.requests["createProject"] == 0


async def test_ids_are_not_remembered_without_end(
    server: ModelDbV2StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "REMEMBERED", 2)
    async with target_of(server.url) as target:
        for project in ("a", "b", "c", "c", "b"):
            await target.sync(job(f"of-{project}", project_name=project), MemoryJournal())
        before = server.requests["findProjects"]
        await target.sync(job("again", project_name="a"), MemoryJournal())

    # twice for each new one, once for the one forgotten
    assert (before, server.requests["findProjects"]) == (6, 7)


@pytest.mark.parametrize("table", ["projects", "experiments"])
async def test_a_place_that_people_deleted_is_made_anew(
    server: ModelDbV2StandIn, table: str
) -> None:
    async with target_of(server.url) as target:
        first = await target.sync(job(), MemoryJournal())
        deleted = getattr(server.store, table)
        deleted.delete(next(iter(deleted.all_live())))
        journal = MemoryJournal()
        second = await target.sync(job("churn-2"), journal)
        third = await target.sync(job("churn-3"), MemoryJournal())

    assert second.created
    assert second.ids["experiment_id"] != first.ids["experiment_id"]
    assert third.ids["experiment_id"] == second.ids["experiment_id"]
    assert journal.unanswered_writes == 0


async def test_a_place_that_is_always_gone_ends_the_attempt(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        server.faults.refuse_next(
            99, 404, {"code": 5, "message": "Project not found for given ID"}, operation=CREATE
        )
        journal = MemoryJournal()
        fault = await job_fault(target.sync(job(), journal))

    assert fault.reason is Reason.TARGET_FAULT
    assert "Project not found for given ID" in fault.detail
    assert (server.requests[CREATE], journal.unanswered_writes) == (3, 0)


async def test_the_description_follows_the_tag(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("a"), MemoryJournal())
        await target.sync(job("b", project_description="Second thoughts"), MemoryJournal())
        calls = Counter(server.requests)
        await target.sync(job("c", project_description="Second thoughts"), MemoryJournal())

    [project] = server.projects()
    assert project["description"] == "Second thoughts"
    assert attributes(project)["sagemaker_project_description"] == "Second thoughts"
    assert server.requests - calls == {CREATE: 1}


@pytest.mark.parametrize("warm", [True, False])
async def test_a_description_that_a_person_wrote_stays(
    server: ModelDbV2StandIn, *, warm: bool
) -> None:
    async with target_of(server.url) as first, target_of(server.url) as second:
        await first.sync(job("a"), MemoryJournal())
        server.store.projects.find("name", "customer-churn")[0].row["description"] = (
            "A person's words"
        )
        await (first if warm else second).sync(
            job("b", project_description="Second thoughts"), MemoryJournal()
        )

    assert server.projects()[0]["description"] == "A person's words"


async def test_our_own_attribute_may_have_become_anything(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("a"), MemoryJournal())
        row = server.store.projects.find("name", "customer-churn")[0].row
        row["attributes"] = [
            {"key": "sagemaker_project_description", "value": ["a", {"list": 1}]},
            {"key": "project_user", "value": None},
        ]
        done = await target.sync(job("b", project_description="Second thoughts"), MemoryJournal())

    assert done.created
    assert server.projects()[0]["description"] == "Who leaves next month"


async def test_an_empty_description_is_filled(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as first, target_of(server.url) as second:
        await first.sync(job("a"), MemoryJournal())
        row = server.store.projects.find("name", "customer-churn")[0].row
        row.pop("description")
        row["attributes"] = []
        await second.sync(job("b"), MemoryJournal())

    assert server.projects()[0]["description"] == "Who leaves next month"
    assert attributes(server.projects()[0]) == {
        "project_user": "amara",
        "sagemaker_project_description": "Who leaves next month",
    }


async def test_a_description_whose_writer_died_half_way_is_still_ours(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("a"), MemoryJournal())
        server.faults.refuse_next(
            1,
            503,
            {"code": 14, "message": "transport is closing"},
            operation="updateProjectAttributes",
        )
        second = job("b", project_description="Second thoughts")
        await edge_fault(target.sync(second, MemoryJournal()))
        await target.sync(second, MemoryJournal())
        await target.sync(job("c", project_description="Third thoughts"), MemoryJournal())

    assert server.projects()[0]["description"] == "Third thoughts"


async def test_the_projects_user_follows_the_tag(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("a"), MemoryJournal())
        calls = Counter(server.requests)
        await target.sync(job("b", project_user="bo"), MemoryJournal())

    assert attributes(server.projects()[0])["project_user"] == "bo"
    assert server.requests - calls == {"updateProjectAttributes": 1, CREATE: 1}


async def test_a_project_that_cannot_be_brought_up_to_date_costs_no_run(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("a"), MemoryJournal())
        server.faults.refuse_next(
            1, 400, {"code": 3, "message": "no"}, operation="updateProjectDescription"
        )
        done = await target.sync(job("b", project_description="Second thoughts"), MemoryJournal())

    assert done.created
    assert any("updateProjectDescription" in note for note in done.notes)


# Refusals and outages
# ---


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": 3, "message": "Tag name can not be more than 40 characters"}),
        (501, {"code": 12, "message": "not for you"}),
        (429, {"code": 8, "message": "grpc: received message larger than max (5 vs. 4)"}),
    ],
)
@pytest.mark.parametrize("operation", ["createProject", "createExperiment", CREATE])
async def test_the_apis_own_refusal_of_a_create_is_believed(
    server: ModelDbV2StandIn, operation: str, status: int, body: dict[str, Any]
) -> None:
    journal = MemoryJournal()
    async with target_of(server.url) as target:
        server.faults.refuse_next(1, status, body, operation=operation)
        refused = await refusal(target.sync(job(), journal))

    assert body["message"] in refused.detail
    # stored, but too large to be answered
    assert journal.unanswered_writes == (operation == CREATE and status == 429)


@pytest.mark.parametrize(
    ("status", "body", "reason", "curable"),
    [
        (400, "<html>Bad Request</html>", Reason.NOT_THE_API, False),
        (404, "Not Found\n", Reason.NOT_THE_API, False),
        (409, "<html>Conflict</html>", Reason.NOT_THE_API, False),
        (302, "", Reason.NOT_THE_API, False),
        (200, "<html>Welcome</html>", Reason.NOT_THE_API, False),
        (200, {}, Reason.NOT_THE_API, False),
        (
            500,
            {"code": 13, "message": "header list size to send violates the maximum size"},
            Reason.NOT_THE_API,
            False,
        ),
        (401, {"code": 16, "message": "who are you"}, Reason.CREDENTIALS, True),
        (403, "<html>Forbidden</html>", Reason.CREDENTIALS, True),
        (429, "slow down", Reason.THROTTLED, True),
        (502, "<html>Bad Gateway</html>", Reason.UNAVAILABLE, True),
        (503, {"code": 14, "message": "transport is closing"}, Reason.UNAVAILABLE, True),
        (504, {"code": 4, "message": "context deadline exceeded"}, Reason.UNREACHABLE, True),
        (
            500,
            {"code": 13, "message": "UNAVAILABLE: DB connection not found after 2560 millisecond"},
            Reason.UNAVAILABLE,
            True,
        ),
    ],
)
async def test_what_is_not_about_the_job_is_the_edges_fault(
    server: ModelDbV2StandIn,
    status: int,
    body: dict[str, Any] | str,
    reason: Reason,
    *,
    curable: bool,
) -> None:
    async with target_of(server.url) as target:
        server.faults.refuse_next(1, status, body, operation=CREATE)
        fault = await edge_fault(target.sync(job(), MemoryJournal()))

    assert (fault.reason, fault.curable) == (reason, curable)


@pytest.mark.parametrize(
    ("operation", "status", "body"),
    [
        (CREATE, 500, {"code": 13, "message": "Internal server error"}),
        (CREATE, 413, "<html>Request Entity Too Large</html>"),
        (CREATE, 403, {"code": 7, "message": "Access is denied."}),
        ("findProjects", 400, {"code": 3, "message": "a request that the server does not like"}),
        ("createProject", 409, {"code": 6, "message": "exists, but is not found"}),
    ],
)
async def test_what_may_be_the_jobs_fault_but_is_no_verdict_is_deferred(
    server: ModelDbV2StandIn, operation: str, status: int, body: dict[str, Any] | str
) -> None:
    async with target_of(server.url) as target:
        server.faults.refuse_next(9, status, body, operation=operation)
        fault = await job_fault(target.sync(job(), MemoryJournal()))

    assert fault.reason is Reason.TARGET_FAULT


async def test_a_run_that_comes_back_without_its_mark_is_not_the_api_we_know(
    server: ModelDbV2StandIn,
) -> None:
    class Forgetful(ModelDbV2Client):
        async def create_experiment_run(self, fields: Mapping[str, Any]) -> Run:
            return await super().create_experiment_run({**fields, "attributes": []})

    journal = MemoryJournal()
    async with target_of(server.url, client=Forgetful) as target:
        fault = await edge_fault(target.sync(job(), journal))

    assert (fault.reason, journal.unanswered_writes) == (Reason.NOT_THE_API, 1)


async def test_a_crowd_that_waits_for_its_turn_does_not_meet_the_outage_one_by_one(
    server: ModelDbV2StandIn,
) -> None:
    async with target_of(server.url) as target:
        await target.sync(job("warm-up"), MemoryJournal())
        calls = sum(server.requests.values())
        server.faults.database_down = True
        jobs = [job(f"churn-{n}", project_name=f"project-{n % 3}") for n in range(20)] + [
            job(f"warm-{n}") for n in range(20)
        ]
        faults = await asyncio.gather(
            *(edge_fault(target.sync(each, MemoryJournal())) for each in jobs)
        )

    assert {fault.reason for fault in faults} == {Reason.UNAVAILABLE}
    assert sum(server.requests.values()) - calls <= 4


# The probe
# ---


async def test_the_probe_asks_each_service_down_to_the_database_one_by_one(
    server: ModelDbV2StandIn,
) -> None:
    server.latency_seconds = 0.01
    async with target_of(server.url) as target:
        await target.probe()

    assert server.requests == {"getProjects": 1, "getExperimentById": 1, "getExperimentRunById": 1}
    assert server.max_concurrent == 1


@pytest.mark.parametrize("service", ["project", "experiment", "experiment-run"])
async def test_the_probe_fails_while_one_service_does(
    server: ModelDbV2StandIn, service: str
) -> None:
    async with target_of(server.url) as target:
        server.faults.services_down = {service}
        assert (await edge_fault(target.probe())).reason is Reason.UNAVAILABLE
        server.faults.services_down = set()
        await target.probe()


async def test_the_probe_tells_what_is_wrong(server: ModelDbV2StandIn) -> None:
    async with target_of(server.url) as target:
        server.faults.database_down = True
        assert (await edge_fault(target.probe())).reason is Reason.UNAVAILABLE
        server.faults.clear()

        server.faults.refuse_next(1, 500, {"code": 2})
        assert (await edge_fault(target.probe())).reason is Reason.UNAVAILABLE

        server.faults.refuse_next(1, 400, {"code": 3, "message": "illegal header"})
        assert (await edge_fault(target.probe())).reason is Reason.NOT_THE_API

        server.faults.web_page = True
        fault = await edge_fault(target.probe())
        assert (fault.reason, fault.curable) == (Reason.NOT_THE_API, False)
        assert "target.url should look like" in fault.detail

    async with target_of(server.url.removesuffix("/v1")) as target:
        server.faults.clear()
        assert (await edge_fault(target.probe())).reason is Reason.NOT_THE_API


async def test_a_login_that_is_refused(server: ModelDbV2StandIn) -> None:
    server.require_headers = {"Authorization": "Bearer good"}
    async with target_of(server.url, headers={"Authorization": "Bearer wrong-token"}) as target:
        fault = await edge_fault(target.probe())
    async with target_of(server.url, headers={"Authorization": "Bearer good"}) as target:
        await target.probe()

    assert fault.reason is Reason.CREDENTIALS
    assert "wrong-token" not in fault.detail


# From the configuration
# ---


async def test_the_target_as_configured(server: ModelDbV2StandIn) -> None:
    observed: list[tuple[str, str]] = []
    server.require_headers = {"Authorization": "Bearer good-token", "X-Tenant": "ml"}
    settings = ModelDbV2Settings.model_validate(
        {
            "url": f"{server.url}/",
            "auth": {"kind": "bearer", "token": "good-token"},
            "headers": {"X-Tenant": "ml"},
            "ui_url": "http://ui:3000",
            "workspace": "team",
        }
    )
    target = open_modeldb_v2(
        settings, lambda operation, result: observed.append((operation, str(result)))
    )
    try:
        done = await target.sync(job(), MemoryJournal())
    finally:
        await target.aclose()

    assert target.kind == "modeldb-v2"
    assert done.ids["run_url"].startswith("http://ui:3000/team/projects/")
    assert observed[-1] == (CREATE, "ok")


async def test_files_of_the_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    settings = ModelDbV2Settings.model_validate({"url": "https://modeldb/v1", "ca_file": str(junk)})

    with pytest.raises(SetupFault, match=r"target\.ca_file.*junk\.pem"):
        open_modeldb_v2(settings, lambda _operation, _result: None)
