"""The simulated MLflow: each fate has its effect on a call, as the real client sees it, and a
state that must not exist at the end of a history is reported.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.mapping import DOUBLE_OF_TAG, WRITTEN_TAG, map_run
from tests.simulation.jobs import SimulatedJob, full_tags
from tests.simulation.loop import START, VirtualLoop, virtual
from tests.simulation.mlflow_server import FATES, SimulatedClient, SimulatedMlflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from daemon.training_job.training_run import TrainingRun

TIMEOUT, SETTLE = 10.0, 20.0
PEOPLES_EXPERIMENTS = 2
JOB = SimulatedJob("job-0", START - 600.0, "Completed", full_tags("project-0", "model-0"))
assert JOB.run is not None
RUN: TrainingRun = JOB.run


@pytest.fixture
def server() -> Iterator[SimulatedMlflow]:
    loop = VirtualLoop()
    with virtual(loop, random.Random(1)):
        yield SimulatedMlflow(
            loop,
            random.Random(1),
            lambda _line: None,
            timeout_seconds=TIMEOUT,
            settle_seconds=SETTLE,
        )
    loop.end()


def call(
    server: SimulatedMlflow, ask: Callable[[SimulatedClient], Awaitable[Any]]
) -> ApiError | None:
    """One call as the daemon makes it; returns its error."""

    async def asked() -> ApiError | None:
        client = SimulatedClient(server, timeout_seconds=TIMEOUT, max_concurrency=4)
        try:
            await ask(client)
        except ApiError as error:
            return error
        finally:
            await client.aclose()
        return None

    return server._loop.run_until_complete(asked())


def create(server: SimulatedMlflow, name: str = "churn") -> ApiError | None:
    return call(server, lambda client: client.create_experiment(name, {}))


def look(server: SimulatedMlflow, name: str = "churn") -> ApiError | None:
    return call(server, lambda client: client.get_experiment_by_name(name))


def after_the_settle_time(server: SimulatedMlflow) -> int:
    """The number of experiments that are not people's, when nothing is in flight any more."""
    server._loop.run_until_complete(asyncio.sleep(SETTLE))
    return len(server.model.experiments()) - PEOPLES_EXPERIMENTS


def test_all_is_well(server: SimulatedMlflow) -> None:
    assert create(server) is None
    assert after_the_settle_time(server) == 1


ENDS = {
    "request lost": (ApiErrorKind.CONNECTION, 0),
    "answer lost": (ApiErrorKind.CONNECTION, 1),
    "no answer": (ApiErrorKind.TIMEOUT, 1),
    "never arrives": (ApiErrorKind.TIMEOUT, 0),
    "503": (ApiErrorKind.DATABASE_DOWN, 0),
    "503 after": (ApiErrorKind.UNAVAILABLE, 1),
    "502 page": (ApiErrorKind.UNAVAILABLE, 1),
    "500": (ApiErrorKind.INTERNAL, 0),
    "500 after": (ApiErrorKind.INTERNAL, 1),
}


@pytest.mark.parametrize("fate", ENDS)
def test_a_fate_is_what_it_says(server: SimulatedMlflow, fate: str) -> None:
    kind, experiments = ENDS[fate]
    server.fate_of_next("experiments/create", fate)
    error = create(server)
    assert error is not None
    assert (error.kind, error.outcome_unknown) == (kind, True)
    assert after_the_settle_time(server) == experiments
    assert create(server, "another") is None, "one call only"
    assert server.suffered == {fate: 1}


def test_every_fate_is_tried_here() -> None:
    assert set(FATES) == {*ENDS, "slow"}


@pytest.mark.parametrize("lag", [0.0, 6.0])
def test_a_late_create_is_carried_out_and_can_be_read_within_the_settle_time(
    server: SimulatedMlflow, lag: float
) -> None:
    server.lag(lag)
    for number in range(20):
        server.fate_of_next("experiments/create", "slow")
        sent_at = server._loop.time()
        create(server, f"churn-{number}")
        server._loop.run_until_complete(asyncio.sleep(sent_at + SETTLE - server._loop.time()))
        assert look(server, f"churn-{number}") is None


def test_what_was_created_is_read_when_the_lag_is_over(server: SimulatedMlflow) -> None:
    server.lag(5.0)
    create(server)
    unseen = look(server)
    assert unseen is not None
    assert unseen.kind is ApiErrorKind.ABSENT
    server._loop.run_until_complete(asyncio.sleep(5.0))
    assert look(server) is None


def test_a_server_that_is_down_takes_no_connections_and_answers_nothing_that_was_under_way(
    server: SimulatedMlflow,
) -> None:
    server._loop.call_later(0.5, server.restart, 5.0)
    server.fate_of_next("experiments/create", "slow")
    error = create(server)
    assert error is not None
    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, True)
    refused = create(server, "another")
    assert refused is not None
    assert (refused.kind, refused.outcome_unknown) == (ApiErrorKind.CONNECTION, False)
    server._loop.run_until_complete(asyncio.sleep(5))
    assert create(server, "a third") is None


def written(server: SimulatedMlflow, *, stamp: str = "1", status: str = "FINISHED") -> str:
    """A run of `JOB` and its model version as the target writes them."""
    mapped = map_run(RUN)
    experiment_id = server.model.store.experiment_ids[mapped.experiment_name]
    run_id = ""

    async def write(client: SimulatedClient) -> None:
        nonlocal run_id
        run = await client.create_run(
            str(experiment_id),
            run_name=mapped.run_name,
            start_time=mapped.start_time,
            tags={**mapped.tags, WRITTEN_TAG: stamp},
        )
        await client.log_batch(run.id, metrics=mapped.metrics, params=mapped.params, tags={})
        await client.log_inputs(run.id, mapped.inputs)
        assert mapped.model is not None
        await client.create_model_version(
            mapped.model.name,
            source=mapped.model.source,
            run_id=run.id,
            run_link=mapped.model.run_link,
            description=mapped.model.version_description,
            tags=mapped.model.tags,
        )
        await client.update_run(run.id, status=status, end_time=mapped.end_time)
        run_id = run.id

    assert call(server, write) is None
    return run_id


def test_one_complete_run_is_right(server: SimulatedMlflow) -> None:
    written(server)
    assert server.wrong([RUN]) == []
    assert server.has(RUN)
    assert server.wrong([]) != [], "nobody wanted it"


def test_what_is_wrong_is_told(server: SimulatedMlflow) -> None:
    assert server.wrong([RUN]) == ["job-0: 0 runs"]
    first = written(server)
    second = written(server, stamp="2")
    assert server.wrong([RUN]) == ["job-0: 2 runs"]
    server.call("runs/delete", run_id=second)
    assert server.wrong([RUN]) == [
        f"job-0: run {second} was deleted without a word why",
        "job-0: 2 models (versions 2, 3)",
    ]
    server.call("runs/restore", run_id=second)
    server.call("runs/set-tag", run_id=first, key=DOUBLE_OF_TAG, value=second)
    server.call("runs/delete", run_id=first)
    assert "job-0: of several runs, not the first one is left" in server.wrong([RUN])


def test_half_a_run_is_wrong(server: SimulatedMlflow) -> None:
    written(server, status="RUNNING")
    assert server.wrong([RUN]) == ["job-0: status 'RUNNING' instead of 'FINISHED'"]


def test_a_run_that_a_person_deleted_is_right_unless_it_is_made_again(
    server: SimulatedMlflow,
) -> None:
    run_id = written(server)
    server.call("runs/delete", run_id=run_id)
    server.deleted_by_people.add(run_id)
    assert server.wrong([RUN]) == []
    written(server, stamp="2")
    assert server.wrong([RUN]) == ["job-0: 1 runs, although a person had deleted it"]


def test_what_is_peoples_must_stay_as_it_is(server: SimulatedMlflow) -> None:
    (run, *_) = server.model.runs()
    server.call("runs/set-tag", run_id=run["info"]["run_id"], key="ours", value="1")
    assert server.wrong([]) == ["people's own runs, models or experiments are not as they were"]


def test_a_request_that_the_server_has_not_read_to_its_end_is_wrong(
    server: SimulatedMlflow,
) -> None:
    run = written(server)
    server.call("runs/update", run_id=run, end_time=1.5, status="FINISHED")
    (wrong, *_) = server.wrong([RUN])
    assert wrong.startswith("MLflow stopped to read a request: runs/update")
