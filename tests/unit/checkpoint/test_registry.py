from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import HistoryFilter
from daemon.checkpoint.registry import jobs_of_others, open_checkpoint
from daemon.config.settings import SqliteSettings
from daemon.errors import SetupFault
from daemon.targets.place import TargetPlace
from tests.support.checkpoint_calls import TARGET, claimed, synced

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_checkpoint_is_created_only_where_it_may_be(path: Path) -> None:
    settings = SqliteSettings(path=path)
    with pytest.raises(SetupFault, match=r"^checkpoint\.path: there is no checkpoint at .*"):
        await open_checkpoint(settings, TARGET, create=False)
    assert not path.exists()

    made = await open_checkpoint(settings, TARGET)
    await synced(made, await claimed(made))
    await made.aclose()

    found = await open_checkpoint(settings, TARGET, create=False)
    assert len(await found.history(HistoryFilter())) == 1
    await found.aclose()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, ""),
        ({TARGET: 7}, ""),
        (
            {
                TARGET: 7,
                TargetPlace("modeldb-v1", "modeldb:6543"): 3,
                TargetPlace(TARGET.kind, "http://old/v1"): 2,
            },
            (
                "5 jobs recorded for other targets: modeldb-v1 at modeldb:6543 (3), "
                "modeldb-v2 at http://old/v1 (2)"
            ),
        ),
        (
            {TargetPlace(TARGET.kind, ""): 2, TargetPlace("", ""): 1, TARGET: 7},
            (
                "3 jobs recorded by a version that did not note the address: those that are synced "
                "are looked up in the target if they come again"
            ),
        ),
        (
            {TargetPlace("modeldb-v1", ""): 2},
            "2 jobs recorded for other targets: modeldb-v1 at unknown place (2)",
        ),
    ],
)
def test_what_a_checkpoint_has_of_others_is_said(counts: dict[TargetPlace, int], said: str) -> None:
    assert jobs_of_others(counts, TARGET) == said
