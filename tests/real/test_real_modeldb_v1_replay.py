"""The real server answers as recorded in the exchanges that the stand-in is tested with."""

from __future__ import annotations

import pytest

from tests.real.modeldb_v1_lab import LAB, lab_server
from tests.support.modeldb_v1_replay import DatabaseHands, Story, replay_counted, stories

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(
        not LAB, reason="MODELDB_V1_LAB names no control script of ModelDB V1 servers"
    ),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("story", stories(), ids=lambda story: story.name)
async def test_the_recorded_exchanges_still_hold(story: Story) -> None:
    if story.name.startswith("no_mongo"):
        pytest.skip("three of its calls wait 30 s each for a MongoDB that is not there")
    async with lab_server(mongo=story.metadata_store) as server:
        hands = DatabaseHands(server.database) if story.needs_hands else None
        result = await replay_counted("127.0.0.1", server.port, story.exchanges, hands)
    assert result.differences == []
    assert len(result.replayed) == len(story.exchanges)
