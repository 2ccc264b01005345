"""The simulated ModelDB V2: each fate has its effect on a call, as the real client sees it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from tests.simulation.loop import VirtualLoop, virtual
from tests.simulation.modeldb_v2_server import FATES, SimulatedClient, SimulatedModelDbV2

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT, SETTLE = 10.0, 20.0


@pytest.fixture
def server() -> Iterator[SimulatedModelDbV2]:
    loop = VirtualLoop()
    with virtual(loop, random.Random(1)):
        yield SimulatedModelDbV2(
            loop,
            random.Random(1),
            lambda _line: None,
            timeout_seconds=TIMEOUT,
            settle_seconds=SETTLE,
        )
    loop.end()


def create(server: SimulatedModelDbV2, name: str = "churn") -> ApiError | None:
    """One create as the daemon makes it; returns its error."""

    async def call() -> ApiError | None:
        client = SimulatedClient(server, timeout_seconds=TIMEOUT, max_concurrency=4)
        try:
            await client.create_project({"name": name})
        except ApiError as error:
            return error
        finally:
            await client.aclose()
        return None

    return server._loop.run_until_complete(call())


def after_the_settle_time(server: SimulatedModelDbV2) -> int:
    """The number of projects when nothing is in flight any more."""
    server._loop.run_until_complete(asyncio.sleep(SETTLE))
    return len(server.stand_in.projects())


def test_all_is_well(server: SimulatedModelDbV2) -> None:
    assert create(server) is None
    assert after_the_settle_time(server) == 1


@pytest.mark.parametrize(
    ("fate", "kind", "projects"),
    [
        ("request lost", ApiErrorKind.CONNECTION, 0),
        ("answer lost", ApiErrorKind.CONNECTION, 1),
        ("no answer", ApiErrorKind.TIMEOUT, 1),
        ("never arrives", ApiErrorKind.TIMEOUT, 0),
        ("503", ApiErrorKind.UNAVAILABLE, 0),
        ("503 after", ApiErrorKind.UNAVAILABLE, 1),
        ("502 page", ApiErrorKind.UNAVAILABLE, 1),
        ("500 bare", ApiErrorKind.BARE_500, 0),
    ],
)
def test_a_fate_is_what_it_says(
    server: SimulatedModelDbV2, fate: str, kind: ApiErrorKind, projects: int
) -> None:
    server.fate_of_next("createProject", fate)
    error = create(server)
    assert error is not None
    assert (error.kind, error.outcome_unknown) == (kind, True)
    assert after_the_settle_time(server) == projects
    assert create(server, "another") is None, "one call only"
    assert server.suffered == {fate: 1}


@pytest.mark.parametrize("fate", ["slow", "stalls"])
def test_a_late_create_is_carried_out_within_the_settle_time(
    server: SimulatedModelDbV2, fate: str
) -> None:
    for number in range(20):
        server.fate_of_next("createProject", fate)
        create(server, f"churn-{number}")
        assert after_the_settle_time(server) == number + 1


def test_a_stalled_create_does_not_see_what_is_made_meanwhile(server: SimulatedModelDbV2) -> None:
    async def both() -> None:
        client = SimulatedClient(server, timeout_seconds=60.0, max_concurrency=4)
        server.fate_of_next("createProject", "stalls")
        first = asyncio.create_task(client.create_project({"name": "churn"}))
        await asyncio.sleep(1)
        await client.create_project({"name": "churn"})
        await first
        await client.aclose()

    server._loop.run_until_complete(both())
    assert server.duplicate_names() == ["2 times churn"]


def test_every_fate_is_tried_here() -> None:
    tried = {
        "request lost",
        "answer lost",
        "no answer",
        "never arrives",
        "503",
        "503 after",
        "502 page",
        "500 bare",
        "slow",
        "stalls",
    }
    assert tried == set(FATES)


def test_a_server_that_is_down_takes_no_connections_and_answers_nothing_that_was_under_way(
    server: SimulatedModelDbV2,
) -> None:
    server._loop.call_later(0.5, server.restart, 5.0)
    server.fate_of_next("createProject", "slow")
    error = create(server)
    assert error is not None
    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, True)
    refused = create(server, "another")
    assert refused is not None
    assert (refused.kind, refused.outcome_unknown) == (ApiErrorKind.CONNECTION, False)
    server._loop.run_until_complete(asyncio.sleep(5))
    assert create(server, "a third") is None
