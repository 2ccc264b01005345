"""Backfill over any list: jobs created in the same millisecond, pages of any size, kills, faults
and stops at any step.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.aws.ports import Failed
from daemon.checkpoint.ports import JobState
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from tests.support.backfill_scene import BackfillScene, Killed, listed, row

CALLS = ("list", "send", "record", "save")
BATCH = 10
MOST_FAULTS = 8


def faults() -> st.SearchStrategy[BaseException]:
    reasons = st.sampled_from([Reason.THROTTLED, Reason.UNAVAILABLE, Reason.CREDENTIALS])
    return st.one_of(
        st.builds(Killed), reasons.map(lambda reason: EdgeFault(Edge.SAGEMAKER, reason, ""))
    )


def sometimes() -> st.SearchStrategy[dict[str, deque[BaseException | None]]]:
    some = st.lists(st.none() | st.none() | st.none() | faults(), max_size=MOST_FAULTS).map(deque)
    return st.dictionaries(st.sampled_from(CALLS), some)


@pytest.mark.slow  # many histories
@given(
    times=st.lists(st.sampled_from([0.0, 0.001, 0.0014, 1.0, 1.0005, 7.0]), max_size=30),
    states=st.lists(st.sampled_from([None, *JobState]), min_size=30, max_size=30),
    page_size=st.integers(1, 7) | st.just(100),
    early=sometimes(),
    late=sometimes(),
    answers=st.lists(st.none() | st.just(Failed("InternalError", "", stale=False)), max_size=20),
)
def test_no_job_is_left_out_and_few_are_sent_twice(
    times: list[float],
    states: list[JobState | None],
    page_size: int,
    early: dict[str, deque[BaseException | None]],
    late: dict[str, deque[BaseException | None]],
    answers: list[Failed | None],
) -> None:
    jobs = [listed(f"job-{number:02d}", seconds) for number, seconds in enumerate(times)]
    known = {
        job.arn.lower(): row(job, state)
        for job, state in zip(jobs, states, strict=False)
        if state is not None
    }
    wanted = {
        job.name
        for job in jobs
        if (found := known.get(job.arn.lower())) is None or found.state is not JobState.SYNCED
    }
    scene = BackfillScene(jobs, known, page_size, early, late, deque(answers))
    ends = 0

    async def until_done() -> None:
        nonlocal ends
        while True:
            with contextlib.suppress(Killed, EdgeFault):
                if await scene.run():
                    return
            ends += 1

    with patch("daemon.operations.backfill._pause", lambda _failures: 0.0):
        asyncio.run(until_done())

    assert scene.sent_once == wanted
    # of each end, and of each send that was carried out although its answer was lost
    assert scene.again <= BATCH * (ends + MOST_FAULTS)
    assert max(scene.batches, default=0) <= BATCH
