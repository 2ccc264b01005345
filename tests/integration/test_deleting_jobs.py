"""Jobs that are being deleted, through the whole flow on real sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.daemon_process import FULL_TAGS, Job
from tests.support.flow_on_sockets import FlowOnSockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# SageMaker's model is read once for all, not once a test
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def flow() -> AsyncIterator[FlowOnSockets]:
    async with FlowOnSockets() as made:
        yield made


@pytest.mark.parametrize("secondary", ["Completed", "Deleting"])
@pytest.mark.parametrize("form", ["event", "detail", "bare"])
async def test_a_completed_job_in_deleting_is_recorded_whole(
    flow: FlowOnSockets, tmp_path: Path, secondary: str, form: str
) -> None:
    job = Job("churn-xgb")
    flow.begin(tmp_path)
    flow.stub.put_job(
        job.description | {"TrainingJobStatus": "Deleting", "SecondaryStatus": secondary},
        FULL_TAGS,
    )
    event: dict[str, Any] = json.loads(job.event)
    body = {
        "event": event,
        "detail": event["detail"],
        "bare": {"TrainingJobName": job.name, "TrainingJobStatus": "Completed"},
    }[form]
    assert (await flow.deliver(json.dumps(body))).kind == "synced"
    [run] = flow.server.runs()
    assert {(item["key"], item["value"]) for item in run["attributes"]} >= {
        ("status", "Completed"),
        ("secondary_status", secondary),
    }
    assert run["metrics"]
    assert run["artifacts"]
