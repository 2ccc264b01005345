"""Programs of several versions with one table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.checkpoint.dynamodb import table_format
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.errors import SetupFault
from daemon.targets.place import ANY_TARGET, TargetPlace
from tests.support.memory_table import MemoryItems, MemoryTable

TARGET = TargetPlace("modeldb-v2", "http://modeldb:8080/v1")


async def opened(held: MemoryItems, target: TargetPlace = TARGET) -> None:
    checkpoint = await open_dynamodb_checkpoint(MemoryTable(held), target, keep_days=400)
    await checkpoint.aclose()


async def test_a_table_of_a_newer_version_is_refused_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = MemoryItems()
    monkeypatch.setattr(table_format, "FORMAT", 2)
    await opened(held)
    before = dict(held.items)
    monkeypatch.setattr(table_format, "FORMAT", 1)
    for target in (TARGET, replace(TARGET, place="http://other:8080/v1"), ANY_TARGET):
        with pytest.raises(SetupFault, match=r"newer version of this program \(format 2; .* to 1"):
            await opened(held, target)
    assert held.items == before


async def test_a_table_of_an_older_version_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = MemoryItems()
    await opened(held)
    monkeypatch.setattr(table_format, "FORMAT", 2)
    await opened(held)
    assert held.items["table#", "format"]["row"] == "1"  # the older one may still run


async def test_a_program_that_only_reads_writes_no_format() -> None:
    held = MemoryItems()
    await opened(held, ANY_TARGET)
    assert held.items == {}
