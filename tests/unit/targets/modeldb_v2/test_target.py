"""The ModelDB V2 target: exactly one run per job, also when answers are lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from daemon.checkpoint.ports import LeaseLost
from daemon.errors import SetupFault
from daemon.reasons import Reason
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.mapping import distinct_run_name
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.modeldb_v2.target import open_modeldb_v2
from tests.support.modeldb_v2_target import (
    BARE_500,
    CLOSING,
    CREATE,
    CREATED,
    MemoryJournal,
    attributes,
    counts,
    duplicate,
    edge_fault,
    job,
    job_fault,
    refusal,
    run_ids,
    scene_of,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from daemon.targets.modeldb_v2.entities import Run
    from tests.support.modeldb_v2_scripted import Deadlines
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
    from tests.support.modeldb_v2_target import TargetScene


# One job
# ---


async def test_a_new_job_gets_its_project_experiment_and_run(
    server: ModelDbV2StandIn, journal: MemoryJournal
) -> None:
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
    ui_url = "https://verta.example.com"
    async with target_of(server.url, ui_url=ui_url, workspace="team") as target:
        done = await target.sync(job(), MemoryJournal())

    assert done.ids["run_url"].startswith("https://verta.example.com/team/projects/")


async def test_no_links_without_a_front_end(scene: TargetScene) -> None:
    assert "run_url" not in (await scene.sync()).ids


async def test_a_second_job_of_a_known_project_and_model_costs_one_call(scene: TargetScene) -> None:
    await scene.sync()
    before = sum(scene.server.requests.values())
    await scene.sync("churn-2")

    assert sum(scene.server.requests.values()) - before == 1
    assert len(scene.server.runs()) == 2


async def test_notes_name_what_was_shortened(scene: TargetScene) -> None:
    done = await scene.sync(model_name="m" * 300)

    assert any("shortened" in note for note in done.notes)
    assert len(scene.server.experiments()[0]["name"]) == 250


# A run exists
# ---


async def test_a_repeated_job_is_found_and_nothing_is_overwritten(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    first = await scene.sync()
    stored = scene.server.store.run(first.ids["run_id"])
    stored.row["description"] = "edited by hand"
    again = await scene.sync(journal=journal)

    assert (again.created, again.ids) == (False, first.ids)
    assert [run["description"] for run in scene.server.runs()] == ["edited by hand"]
    assert journal.unanswered_writes == 0


async def test_a_lost_checkpoint_and_a_changed_tag_make_no_second_run(
    scene: TargetScene, other: TargetScene
) -> None:
    first = await scene.sync()
    again = await other.sync(
        project_name="another project", journal=MemoryJournal(look_up_first=True)
    )

    assert (again.created, again.ids) == (False, first.ids)
    assert counts(scene.server) == (1, 1, 1)


async def test_a_run_that_a_person_renamed_is_found_by_its_mark(scene: TargetScene) -> None:
    first = await scene.sync()
    scene.server.store.run(first.ids["run_id"]).row["name"] = "the good one"
    again = await scene.sync(journal=MemoryJournal(look_up_first=True))

    assert (again.ids["run_id"], again.ids["run"], again.detail) == (
        first.ids["run_id"],
        "the good one",
        "",
    )


async def test_a_job_that_is_surely_new_is_not_looked_up(scene: TargetScene) -> None:
    await scene.sync()

    assert scene.server.requests["findExperimentRuns"] == 0


async def test_a_run_that_is_found_counts_even_when_its_project_cannot_be_named(
    scene: TargetScene,
) -> None:
    first = await scene.sync()
    scene.server.faults.refuse_next(
        1, 500, {"code": 13, "message": "Internal server error"}, operation="getProjectById"
    )
    again = await scene.sync()

    assert again.ids == {
        key: value for key, value in first.ids.items() if key not in {"project", "experiment"}
    }


async def test_a_run_that_is_deleted_between_the_refusal_and_the_look_is_left_to_the_next_attempt(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.refuse_next(
        1,
        409,
        {"code": 6, "message": "ExperimentRun already exists in database"},
        operation=CREATE,
    )
    fault = await job_fault(scene.sync(journal=journal))
    done = await scene.sync(journal=journal)

    assert (fault.reason, done.created, len(scene.server.runs())) == (Reason.TARGET_FAULT, True, 1)


# The name belongs to another run
# ---


async def test_a_job_of_the_same_name_gets_a_distinct_name(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    first, second = job(), job(created=CREATED + timedelta(days=30))
    await scene.sync(run=first)
    done = await scene.sync(run=second, journal=journal)
    again = await scene.sync(run=second)

    name = distinct_run_name("churn-1", second.mark)
    assert {run["name"] for run in scene.server.runs()} == {"churn-1", name}
    assert (done.created, done.ids["run"], journal.unanswered_writes) == (True, name, 0)
    assert "because another run has the name 'churn-1'" in done.detail
    assert [lock.rpartition("/")[2] for lock in journal.begun] == ["churn-1", name]
    assert (again.created, again.ids) == (False, done.ids)


async def test_a_run_without_a_mark_belongs_to_another_writer(scene: TargetScene) -> None:
    done = await scene.sync()
    scene.server.store.run(done.ids["run_id"]).row["attributes"] = []
    scene.server.store.run(done.ids["run_id"]).row["description"] = "mine"
    other = await scene.sync()

    assert other.created
    assert other.ids["run"] == distinct_run_name("churn-1", job().mark)
    assert scene.server.store.run(done.ids["run_id"]).row["description"] == "mine"


async def test_a_job_whose_both_names_are_taken_is_refused(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    second = job(created=CREATED + timedelta(days=30))
    first = await scene.sync()
    duplicate(scene.server, first.ids["run_id"], name=distinct_run_name("churn-1", second.mark))
    refused = await refusal(scene.sync(run=second, journal=journal))

    assert "rename or delete" in refused.detail
    assert journal.unanswered_writes == 0


async def test_duplicates_of_another_job_are_left_alone(scene: TargetScene) -> None:
    second = job(created=CREATED + timedelta(days=30))
    first = await scene.sync()
    duplicate(scene.server, first.ids["run_id"])
    done = await scene.sync(run=second)

    assert done.ids["run"] == distinct_run_name("churn-1", second.mark)
    assert len(scene.server.runs()) == 3


# Lost answers
# ---


async def test_an_answer_lost_after_the_create(scene: TargetScene, journal: MemoryJournal) -> None:
    scene.server.faults.lose_next_answers(1, operation=CREATE)
    fault = await edge_fault(scene.sync(journal=journal))
    assert (fault.reason, journal.unanswered_writes) == (Reason.UNREACHABLE, 1)

    done = await scene.sync(journal=journal)

    assert (done.created, len(scene.server.runs()), scene.server.requests[CREATE]) == (False, 1, 1)
    # one create, one run: nothing else is in flight
    assert (journal.unanswered_writes, scene.settling.slept) == (0, [])


async def test_an_unanswered_create_is_looked_up_before_anything_else_is_made(
    scene: TargetScene,
) -> None:
    first = await scene.sync()
    done = await scene.sync(project_name="renamed", journal=MemoryJournal(unanswered_writes=1))

    assert (done.created, done.ids) == (False, first.ids)
    assert counts(scene.server) == (1, 1, 1)


async def test_a_create_that_was_lost_on_its_way(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.refuse_next(1, *CLOSING, operation=CREATE)
    fault = await edge_fault(scene.sync(journal=journal))
    assert (fault.reason, journal.unanswered_writes) == (Reason.UNAVAILABLE, 1)

    done = await scene.sync(journal=journal)

    assert (done.created, len(scene.server.runs())) == (True, 1)
    # the first create might still have come
    assert (journal.unanswered_writes, scene.settling.slept) == (0, [30.0])
    assert scene.server.requests["findExperimentRuns"] == 2


async def test_no_answer_in_time(
    server: ModelDbV2StandIn, deadlines: Deadlines, journal: MemoryJournal
) -> None:
    async with target_of(server.url, timeout_seconds=deadlines.SECONDS) as target:
        server.faults.delay_next(60.0, operation=CREATE)
        syncing = asyncio.create_task(edge_fault(target.sync(job(), journal)))
        await server.wait_for_requests(CREATE)
        deadlines.expire()
        fault = await syncing

    assert (fault.reason, journal.unanswered_writes, server.requests[CREATE]) == (
        Reason.UNREACHABLE,
        1,
        1,
    )


async def test_a_create_that_is_carried_out_late_is_healed(
    server: ModelDbV2StandIn, other: TargetScene, journal: MemoryJournal
) -> None:
    """The project tag changes in between, so the server's check of the name does not prevent the
    duplicate.
    """

    class Late(ModelDbV2Client):
        late: ClassVar[list[Mapping[str, Any]]] = []

        async def create_experiment_run(
            self, fields: Mapping[str, Any], ready: Callable[[], None] = lambda: None
        ) -> Run:
            if not self.late:
                self.late.append(fields)
                raise ApiError(
                    ApiErrorKind.TIMEOUT, CREATE, "no answer within 30 s", outcome_unknown=True
                )
            return await super().create_experiment_run(fields, ready)

    async with scene_of(server, client=Late) as scene:
        assert (await edge_fault(scene.sync(journal=journal))).reason is Reason.UNREACHABLE
        late = other.target._client.create_experiment_run
        scene.settling.during = lambda: late(Late.late[0])
        done = await scene.sync(project_name="renamed", journal=journal)

    assert scene.settling.slept == [30.0]
    [run] = server.runs()
    assert (done.created, done.healed, done.ids["run_id"]) == (True, 1, run["id"])
    assert done.ids["project"] == "renamed"
    assert journal.unanswered_writes == 0


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_bare_500_is_looked_up_and_retried(
    server: ModelDbV2StandIn, journal: MemoryJournal, *, carried_out: bool
) -> None:
    class DeadConnection(ModelDbV2Client):
        failures = 1

        async def create_experiment_run(
            self, fields: Mapping[str, Any], ready: Callable[[], None] = lambda: None
        ) -> Run:
            if self.failures:
                self.failures -= 1
                if carried_out:
                    await super().create_experiment_run(fields, ready)
                raise ApiError(
                    ApiErrorKind.BARE_500,
                    CREATE,
                    "500 code 2: no text",
                    status=500,
                    code=2,
                    outcome_unknown=True,
                )
            return await super().create_experiment_run(fields, ready)

    async with scene_of(server, client=DeadConnection) as scene:
        done = await scene.sync(journal=journal)

    assert len(server.runs()) == 1
    assert done.created is not carried_out
    assert server.requests["findExperimentRuns"] == (1 if carried_out else 2)
    assert (journal.unanswered_writes, scene.settling.slept) == (0, [] if carried_out else [30.0])


async def test_three_bare_500s_are_this_jobs_fault(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.refuse_next(9, *BARE_500, operation=CREATE)
    fault = await job_fault(scene.sync(journal=journal))

    assert fault.reason is Reason.TARGET_FAULT
    assert (scene.server.requests[CREATE], journal.unanswered_writes) == (3, 3)
    assert scene.server.requests["findExperimentRuns"] == 2  # before each further create


async def test_reads_that_end_in_a_bare_500_are_retried(scene: TargetScene) -> None:
    for operation in (
        "findExperimentRuns",
        "findProjects",
        "createProject",
        "findExperiments",
        "createExperiment",
    ):
        scene.server.faults.refuse_next(1, *BARE_500, operation=operation)
    done = await scene.sync(journal=MemoryJournal(look_up_first=True))

    assert done.created
    assert counts(scene.server) == (1, 1, 1)


async def test_several_unanswered_creates_are_waited_for_even_when_one_run_is_found(
    scene: TargetScene,
) -> None:
    first = await scene.sync()

    async def another_comes() -> None:
        duplicate(scene.server, first.ids["run_id"], later_ms=5)

    scene.settling.during = another_comes
    journal = MemoryJournal(unanswered_writes=2)
    done = await scene.sync(journal=journal)

    assert scene.settling.slept == [30.0]
    assert (done.created, done.healed, run_ids(scene.server)) == (False, 1, {first.ids["run_id"]})
    assert journal.unanswered_writes == 0


async def test_a_run_that_vanishes_while_it_settles_is_not_reported_as_there(
    scene: TargetScene,
) -> None:
    async def a_person_deletes_it() -> None:
        scene.server.store.runs.delete(scene.server.store.run(scene.server.runs()[0]["id"]))

    scene.settling.during = a_person_deletes_it
    journal = MemoryJournal(unanswered_writes=1)
    fault = await job_fault(scene.sync(journal=journal))
    assert (fault.reason, journal.unanswered_writes) == (Reason.TARGET_FAULT, 1)

    scene.settling.during = None
    assert (await scene.sync(journal=journal)).created

    assert len(scene.server.runs()) == 1


async def test_an_outage_while_it_settles_leaves_the_job_open(scene: TargetScene) -> None:
    journal = MemoryJournal(unanswered_writes=1)

    async def the_database_goes() -> None:
        scene.server.faults.database_down = True

    scene.settling.during = the_database_goes
    assert (await edge_fault(scene.sync(journal=journal))).reason is Reason.UNAVAILABLE
    assert journal.unanswered_writes == 1

    scene.server.faults.clear()
    scene.settling.during = None
    done = await scene.sync(journal=journal)

    assert (done.created, len(scene.server.runs()), journal.unanswered_writes) == (False, 1, 0)


async def test_a_connection_that_is_refused_was_surely_not_used(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    await scene.sync("warm-up")
    await scene.server.stop()
    await edge_fault(scene.target.probe())  # ends the idle connection
    fault = await edge_fault(scene.sync(journal=journal))

    assert (fault.reason, fault.curable) == (Reason.UNREACHABLE, True)
    assert (len(journal.begun), journal.unanswered_writes) == (1, 0)


async def test_a_cancelled_create_stays_unanswered(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.delay_next(60.0, operation=CREATE)
    syncing = asyncio.create_task(scene.sync(journal=journal))
    await scene.server.wait_for_requests(CREATE)
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing

    assert journal.unanswered_writes == 1


async def test_nothing_is_sent_without_the_journals_leave(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    journal.refusal = LeaseLost("arn")
    with pytest.raises(LeaseLost):
        await scene.sync(journal=journal)

    assert scene.server.requests[CREATE] == 0


# Outages
# ---


async def test_a_run_that_comes_back_without_its_mark_is_not_the_api_we_know(
    server: ModelDbV2StandIn, journal: MemoryJournal
) -> None:
    class Forgetful(ModelDbV2Client):
        async def create_experiment_run(
            self, fields: Mapping[str, Any], ready: Callable[[], None] = lambda: None
        ) -> Run:
            return await super().create_experiment_run({**fields, "attributes": []}, ready)

    async with scene_of(server, client=Forgetful) as scene:
        fault = await edge_fault(scene.sync(journal=journal))

    assert (fault.reason, journal.unanswered_writes) == (Reason.NOT_THE_API, 1)


async def test_a_crowd_that_waits_for_its_turn_does_not_meet_the_outage_one_by_one(
    scene: TargetScene,
) -> None:
    await scene.sync("warm-up")
    calls = sum(scene.server.requests.values())
    scene.server.faults.database_down = True
    jobs = [job(f"churn-{n}", project_name=f"project-{n % 3}") for n in range(20)] + [
        job(f"warm-{n}") for n in range(20)
    ]
    faults = await asyncio.gather(*(edge_fault(scene.sync(run=each)) for each in jobs))

    assert {fault.reason for fault in faults} == {Reason.UNAVAILABLE}
    assert sum(scene.server.requests.values()) - calls <= 4


# The probe
# ---


async def test_the_probe_asks_each_service_down_to_the_database_one_by_one(
    scene: TargetScene,
) -> None:
    scene.server.latency_seconds = 0.01
    await scene.target.probe()

    assert scene.server.requests == {
        "getProjects": 1,
        "getExperimentById": 1,
        "getExperimentRunById": 1,
    }
    assert scene.server.max_concurrent == 1


@pytest.mark.parametrize("service", ["project", "experiment", "experiment-run"])
async def test_the_probe_fails_while_one_service_does(scene: TargetScene, service: str) -> None:
    scene.server.faults.services_down = {service}
    assert (await edge_fault(scene.target.probe())).reason is Reason.UNAVAILABLE
    scene.server.faults.services_down = set()
    await scene.target.probe()


async def test_the_probe_reports_what_is_wrong(scene: TargetScene) -> None:
    faults, probe = scene.server.faults, scene.target.probe
    faults.database_down = True
    assert (await edge_fault(probe())).reason is Reason.UNAVAILABLE
    faults.clear()

    faults.refuse_next(1, *BARE_500)
    assert (await edge_fault(probe())).reason is Reason.UNAVAILABLE

    faults.refuse_next(1, 400, {"code": 3, "message": "illegal header"})
    assert (await edge_fault(probe())).reason is Reason.NOT_THE_API

    faults.web_page = True
    fault = await edge_fault(probe())
    assert (fault.reason, fault.curable) == (Reason.NOT_THE_API, False)
    assert "target.url should look like" in fault.detail
    faults.clear()

    async with target_of(scene.server.url.removesuffix("/v1")) as target:
        assert (await edge_fault(target.probe())).reason is Reason.NOT_THE_API


async def test_a_login_that_is_refused(server: ModelDbV2StandIn) -> None:
    server.require_headers = {"Authorization": "Bearer good"}
    async with target_of(server.url, headers={"Authorization": "Bearer wrong-token"}) as target:
        fault = await edge_fault(target.probe())
    async with target_of(server.url, headers={"Authorization": "Bearer good"}) as target:
        await target.probe()

    assert fault.reason is Reason.CREDENTIALS
    assert "wrong-token" not in fault.detail


# The configuration
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
