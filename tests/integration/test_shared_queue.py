"""The daemon process on a queue that it shares with others (`queue.foreign_messages: leave`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


@pytest.mark.slow  # waits to see how often it asks
async def test_messages_of_others_stay_in_the_queue_and_are_not_asked_for_at_full_speed(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    job = Job("shared-1")
    scene.finish_jobs([job])
    await scene.send([json.dumps({"orderId": 7}), job.event])
    daemon = scene.daemon(free_port(), queue={"foreign_messages": "leave"})
    await daemon.start()
    lines = await daemon.outcomes(5)
    others = [line for line in lines if line["outcome"] == "skipped"]
    assert {line["reason"] for line in others} == {"other_event"}
    assert [line["job"] for line in lines if line["outcome"] == "synced"] == ["shared-1"]
    assert max(line["receive_count"] for line in others) >= 3
    assert len(modeldb.runs()) == 1
    assert await daemon.stop() == 0
    depth = await scene.depth()
    assert depth["visible"] + depth["in_flight"] == 1
    assert await scene.dead_letters() == []
    assert len([line for line in daemon.log if "messages of others" in line["event"]]) == 1
