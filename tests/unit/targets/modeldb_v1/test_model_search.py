"""Finding the model of a run by its id, on a server without a metadata store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.errors import JobFault
from daemon.reasons import Reason
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_target import add_models, full_job, lose, runs_of
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


@pytest.fixture
def metadata_store() -> bool:
    return False


@pytest.mark.parametrize(
    ("before", "after"), [(0, 0), (500, 500), (900, 10), (31, 0), (32, 1), (1, 33)]
)
async def test_a_model_without_an_answer_is_found_by_its_number(
    server: ModelDbV1StandIn, target: ModelDBV1Target, before: int, after: int
) -> None:
    add_models(server, before)
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    add_models(server, after)
    synced = await target.sync(full_job(), journal)
    assert synced.ids["model_id"] == str(before + 1)
    assert len(server.fits) == before + 1 + after
    assert len(runs_of(server, full_job())) == 1
    assert len(server.metrics) == 4


async def test_a_model_among_numbers_without_a_fit(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    for _ in range(20):
        server.store.models.insert({"transformerType": "", "tag": "", "experimentRun": 1})
    assert (await target.sync(full_job(), journal)).ids["model_id"] == "1"


async def test_a_model_that_cannot_be_found_is_not_stored_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    for row in server.store.specs:
        row["tag"] = "changed by somebody"
    with pytest.raises(JobFault) as caught:
        await target.sync(full_job(), journal)
    assert caught.value.reason is Reason.TARGET_FAULT
    assert "run 1 has a model that is not among the newest 10000" in caught.value.detail
    assert len(server.fits) == 1


async def test_a_model_found_by_trying_ids_is_logged(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    add_models(server, 3)
    with capture_logs() as logs:
        await target.sync(full_job(), journal)
    [line] = log_lines(logs, "found the model of a run by trying numbers")
    assert (line["log_level"], line["model_id"]) == ("warning", 1)
