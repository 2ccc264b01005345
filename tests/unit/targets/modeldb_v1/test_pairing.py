"""A MongoDB that keeps the documents of an SQLite file that is gone: no model is shown with another
job's metadata.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1.codec import ApplicationException
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.model_search import newest_model
from daemon.targets.modeldb_v1.pairing import ForeignDocument
from daemon.targets.modeldb_v1.readback import other_owner
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_target import (
    Permit,
    at_each_call,
    edge_fault,
    full_job,
    marker,
    target_on,
    wrong,
)
from tests.support.modeldb_v2_target import CREATED, MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemon.demo.modeldb_v1.store import Store
    from daemon.errors import EdgeFault
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

OLD = [full_job(f"old-{number}") for number in range(3)]
OTHERS = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/of-others"
ERROR = "MongoDB of ModelDB V1 is of another database"


async def sync_all(target: ModelDBV1Target, names: Iterable[str]) -> None:
    for name in names:
        await target.sync(full_job(name), MemoryJournal())


async def fill(server: ModelDbV1StandIn) -> None:
    async with target_on(server.port, metadata_store=True) as target:
        await sync_all(target, (each.name for each in OLD))


def document(model_id: int, **members: Any) -> dict[str, Any]:
    return {"NAME": "a model", **members, "MODELDB_model_id": model_id}


def store_fit(store: Store) -> None:
    """A model of somebody else, in a run that does not matter."""
    run = {"experimentRun": 99}
    parts = {
        "df": store.insert(store.data_frames, numRows=1, **run),
        "transformerSpec": store.insert(store.specs, transformerType="t", **run),
        "transformer": store.insert(store.models, transformerType="t", **run),
    }
    words = {"predictionColumns": "", "labelColumns": "", "problemType": "undefined"}
    store.insert(store.fits, **parts, **words, **run)


def assert_held(fault: EdgeFault, *words: str) -> None:
    assert (fault.edge, fault.reason, fault.curable) == (Edge.TARGET, Reason.UNAVAILABLE, True)
    assert fault.detail.startswith("MongoDB is of another database than SQLite: ")
    assert "give the server the SQLite file that belongs to this MongoDB" in fault.detail
    assert len(fault.detail) <= 500
    assert fault.detail[-1] != "…"
    for word in words:
        assert word in fault.detail


async def test_documents_of_a_deleted_sqlite_file_hold_before_anything_is_written(
    server: ModelDbV1StandIn,
) -> None:
    await fill(server)
    await server.forget_sqlite()
    server.received.clear()
    documents = server.documents
    async with target_on(server.port, metadata_store=True) as target:
        for _ in range(2):
            fault = await edge_fault(target.sync(full_job(), MemoryJournal()))
            assert_held(fault, "metadata of model 1", "SQLite has no model", "which is 1 or more")
        assert_held(await edge_fault(target.probe()))
        assert server.runs == []
        assert not [each for each in server.calls if each.startswith("store")]
        assert server.documents == documents, "nothing was changed"
        server.forget_documents()
        await target.probe()
        await target.sync(full_job(), MemoryJournal())
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_check_without_the_right_to_write_says_so(server: ModelDbV1StandIn) -> None:
    await fill(server)
    await server.forget_sqlite()
    permit = Permit()
    permit.holds = False
    async with target_on(server.port, metadata_store=True, permit=permit) as target:
        assert_held(await edge_fault(target.probe()), "metadata of model 1")


async def test_an_sqlite_file_from_a_backup_lacks_models_that_have_documents(
    server: ModelDbV1StandIn,
) -> None:
    async with target_on(server.port, metadata_store=True) as target:
        await sync_all(target, "ab")
    server.stored_documents.insert(document(3, JOB={"arn": OTHERS}))
    async with target_on(server.port, metadata_store=True) as target:
        fault = await edge_fault(target.sync(full_job(), MemoryJournal()))
    assert_held(fault, "metadata of model 3", "no model above 2", "which is 3 or more")


FOREIGN = {
    "another job's": {"JOB": {"arn": OTHERS, "creation_time": "2025-01-01T00:00:00.000Z"}},
    "another job's, without a time": {"JOB": {"arn": OTHERS}},
    "an earlier job's of the same name": {
        "JOB": {"arn": full_job().mark.arn, "creation_time": "2024-01-01T00:00:00.000Z"}
    },
    "the original client's": {},
    "a JOB without an ARN": {"JOB": {"name": "churn-1"}},
    "a JOB that is a text": {"JOB": full_job().mark.arn},
    "an ARN that is a number": {"JOB": {"arn": 7}},
    "a JOB in a list": {"JOB": [{"arn": full_job().mark.arn}]},
    "a number that is none": {"AUC": float("nan")},
}


@pytest.mark.parametrize("members", FOREIGN.values(), ids=FOREIGN)
async def test_a_model_that_has_anothers_document_holds(
    server: ModelDbV1StandIn, target: ModelDBV1Target, members: dict[str, Any]
) -> None:
    """The document came after the daemon had looked for some, or with a gap before it."""
    await target.sync(full_job("before"), MemoryJournal())
    server.stored_documents.insert(document(2, **members))
    journal = MemoryJournal()
    with capture_logs() as logs:
        fault = await edge_fault(target.sync(full_job(), journal))
        again = await edge_fault(target.sync(full_job(), journal))
    owner = OTHERS if "of-others" in str(members) else "no training job"
    if members.get("JOB", {}) and "2024" in str(members):
        owner = f"{full_job().mark.arn} created 2024-01-01T00:00:00.000Z"
    assert_held(fault, "metadata of model 2, in run 2, are those of", owner, "which is 2, unless")
    assert again.detail == fault.detail
    assert len(server.runs) == len(server.fits) == 2
    assert [line["log_level"] for line in log_lines(logs, ERROR)] == ["error"]
    assert_held(await edge_fault(target.probe()), "metadata of model 2")

    server.stored_documents._documents = [
        each for each in server.stored_documents if each["MODELDB_model_id"] < 2
    ]
    with capture_logs() as logs:
        await target.probe()
        await target.sync(full_job(), journal)
    assert log_lines(logs, "MongoDB and SQLite of ModelDB V1 belong together again")
    assert wrong(server, [full_job("before"), full_job()], metadata_store=True) == []


OWN = {
    "the same job's": {
        "JOB": {"arn": full_job().mark.arn, "creation_time": full_job().mark.creation_time}
    },
    "an older version's, without a time": {"JOB": {"arn": full_job().mark.arn}},
    "an ARN as it was given": {"JOB": {"arn": full_job().mark.arn.upper()}},
}


@pytest.mark.parametrize("members", OWN.values(), ids=OWN)
async def test_a_document_of_the_same_job_is_its_own(
    server: ModelDbV1StandIn, target: ModelDBV1Target, members: dict[str, Any]
) -> None:
    await target.sync(full_job("before"), MemoryJournal())
    server.stored_documents.insert(document(2, **members))
    await target.sync(full_job(), MemoryJournal())
    await target.probe()


async def test_models_of_other_people_are_theirs(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Theirs have documents that name no job, or none at all."""
    await target.sync(full_job("before"), MemoryJournal())
    for model_id, has_document in ((2, True), (3, False), (4, True)):
        store_fit(server.store)
        if has_document:
            server.stored_documents.insert(document(model_id))
    await server.restart()
    await target.probe()
    await target.sync(full_job(), MemoryJournal())
    assert wrong(server, [full_job("before"), full_job()], metadata_store=True) == []


async def test_a_model_of_two_fits_is_there(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Its ancestry is not to be had, yet its document is that of a model that exists."""
    await target.sync(full_job("before"), MemoryJournal())
    store = server.store
    store.insert(store.fits, **dict(store.fits.where("transformer", 1)[0]) | {"id": -1})
    async with target_on(server.port, metadata_store=True) as another:
        await another.probe()


@pytest.mark.parametrize("metadata_store", [False])
async def test_without_a_metadata_store_nothing_is_compared(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    server.stored_documents.insert(document(1))
    await target.probe()
    await target.sync(full_job(), MemoryJournal())
    assert "createOrUpdateScalarField" not in server.calls


async def test_all_jobs_in_progress_are_held_and_complete_afterwards(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("before"), MemoryJournal())
    for model_id in range(2, 7):
        server.stored_documents.insert(document(model_id, JOB={"arn": OTHERS}))
    jobs = {name: (full_job(name), MemoryJournal()) for name in "abcde"}
    for fault in await asyncio.gather(*(edge_fault(target.sync(*each)) for each in jobs.values())):
        assert_held(fault, OTHERS)
    server.forget_documents()
    await target.probe()
    await asyncio.gather(*(target.sync(*each) for each in jobs.values()))
    documents = {each["MODELDB_model_id"]: each["JOB"]["name"] for each in server.documents}
    assert sorted(documents.values()) == [*"abcde"]
    assert len(server.runs) == len(server.fits) == 6


async def test_a_model_of_before_that_shows_anothers_metadata_is_not_taken_for_complete(
    server: ModelDbV1StandIn,
) -> None:
    """Written by a version that did not look, met again after a lost checkpoint. Without the
    other's document it shows its own.
    """
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(full_job(), MemoryJournal())
    server.stored_documents.insert(document(1, JOB={"arn": OTHERS}))
    server.stored_documents._documents.reverse()
    journal = MemoryJournal(look_up_first=True)
    async with target_on(server.port, metadata_store=True) as target:
        assert_held(await edge_fault(target.sync(full_job(), journal)), OTHERS)
        server.stored_documents._documents.pop(0)
        await target.probe()
        found = await target.sync(full_job(), journal)
    assert (found.created, found.notes) == (False, ())
    assert server.calls.count("storeFitEvent") == 1
    assert wrong(server, [full_job()], metadata_store=True) == []


def test_the_longest_sentence_is_whole() -> None:
    highest = 2**31 - 1
    fault = ForeignDocument("getExperimentRunDetails", highest, highest, "x" * 160)
    assert fault.detail.endswith("of the run's own job")


async def test_the_sqlite_file_is_put_back(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The run that had another's document is gone; it is made anew, with its own."""
    await target.sync(full_job("before"), MemoryJournal())
    server.stored_documents.insert(document(2, JOB={"arn": OTHERS}))
    journal = MemoryJournal()
    await edge_fault(target.sync(full_job(), journal))
    await server.aclose()
    server.store.clear()
    for _ in range(4):
        store_fit(server.store)
    await server.start()
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_server_that_does_not_know_the_call_is_used_without_the_comparison(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    server.faults.refuse(
        ApplicationException(1, "Invalid method name: 'createOrUpdateScalarField'"),
        method="createOrUpdateScalarField",
    )
    await target.probe()


async def test_the_metadata_store_goes_away_during_the_comparison(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    at_each_call(
        server,
        "computeModelAncestry",
        partial(setattr, server.faults, "mongo_down", True),
    )
    fault = await edge_fault(target.probe())
    assert (fault.reason, fault.curable) == (Reason.UNAVAILABLE, True)
    assert "MongoDB does not answer" in fault.detail


async def test_a_writer_beside_the_probe_is_no_other_database(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """It stores the next model right after the probe has learned which one is next."""
    hold = server.faults.hold_before_execution(method="createOrUpdateScalarField")
    async with target_on(server.port, metadata_store=True) as other:
        probing = asyncio.create_task(other.probe())
        await hold.reached.wait()
        await target.sync(full_job(), MemoryJournal())
        hold.release()
        await probing


MARKER = marker(full_job())
OWN_TEXT = map_job(full_job(), metadata_store=True).metadata or ""


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("", None),
        (None, None),
        (OWN_TEXT, None),
        (f'{OWN_TEXT[:-1]}, "_id" : ObjectId("1")}}', None),
        ("{}", "no training job"),
        ("{", "no training job"),
        ("[1]", "no training job"),
        ('"text"', "no training job"),
        ("null", "no training job"),
        ("[" * 100_000, "no training job"),
        ('{ "JOB" : { "arn" : "other" , "creation_time" : NaN}}', "other created nan"),
        (
            map_job(
                full_job(created=CREATED + timedelta(milliseconds=1)), metadata_store=True
            ).metadata,
            f"{full_job().mark.arn} created 2025-11-20T08:40:00.051Z",
        ),
    ],
)
def test_whose_a_document_is(text: str | None, owner: str | None) -> None:
    assert other_owner(text, MARKER) == owner


def test_a_long_name_of_an_owner_is_cut() -> None:
    owner = other_owner('{"JOB": {"arn": "' + "x" * 10_000 + '"}}', MARKER)
    assert owner is not None
    assert len(owner) <= 200


class Models:
    """A connection to a server that has these models."""

    def __init__(self, *model_ids: int) -> None:
        self._model_ids = model_ids
        self.asked = 0

    async def call(self, method: str, **arguments: Any) -> object:
        assert method == "computeModelAncestry"
        self.asked += 1
        if arguments["modelId"] in self._model_ids:
            return object()
        raise CallFailed(CallErrorKind.NOT_FOUND, method, "not there", answered=True)


@pytest.mark.parametrize("known", [0, 1, 7, 40, 5000])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 31, 32, 33, 1000, 4097])
async def test_the_newest_model(count: int, known: int) -> None:
    models = Models(*range(1, count + 1))
    assert await newest_model(models, known) == count
    assert models.asked <= 2 + 4 * (count.bit_length() + 1)


@pytest.mark.parametrize("known", [0, 4, 6])
async def test_the_newest_model_behind_ids_without_a_fit(known: int) -> None:
    assert await newest_model(Models(2, 4, 5, 7, 9), known) == 9
