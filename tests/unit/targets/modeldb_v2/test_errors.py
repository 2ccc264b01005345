"""Which fault each answer of ModelDB V2 becomes, through the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon.reasons import Reason
from tests.support.modeldb_v2_target import (
    CREATE,
    MemoryJournal,
    edge_fault,
    job_fault,
    refusal,
)

if TYPE_CHECKING:
    from tests.support.modeldb_v2_target import TargetScene


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
    scene: TargetScene, journal: MemoryJournal, operation: str, status: int, body: dict[str, Any]
) -> None:
    scene.server.faults.refuse_next(1, status, body, operation=operation)
    refused = await refusal(scene.sync(journal=journal))

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
    scene: TargetScene,
    status: int,
    body: dict[str, Any] | str,
    reason: Reason,
    *,
    curable: bool,
) -> None:
    scene.server.faults.refuse_next(1, status, body, operation=CREATE)
    fault = await edge_fault(scene.sync())

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
    scene: TargetScene, operation: str, status: int, body: dict[str, Any] | str
) -> None:
    scene.server.faults.refuse_next(9, status, body, operation=operation)
    fault = await job_fault(scene.sync())

    assert fault.reason is Reason.TARGET_FAULT
