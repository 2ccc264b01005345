"""What every table of the checkpoint does, on every implementation of DynamoDB's API there is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from daemon.checkpoint.dynamodb.table import ConditionFailed, Index
from tests.support.dynamodb_tables import SERVERS, make_table, place_on
from tests.support.memory_table import MemoryItems, MemoryTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.checkpoint.dynamodb.table import Item, Page, Table


@pytest.fixture(params=["memory", *SERVERS])
async def table(
    request: pytest.FixtureRequest, moto_endpoint: str, aws_credentials: None
) -> AsyncIterator[Table]:
    """A table on each server, or the test double in memory."""
    if request.param == "memory":
        yield MemoryTable(MemoryItems())
        return
    place = place_on(request.param, moto_endpoint)
    await make_table(place)
    table = await open_aws_table(place)
    yield table
    await table.aclose()


def item(
    sort: str = "a", *, partition: str = "job#x", version: int = 1, **more: str | float
) -> Item:
    return {"pk": partition, "sk": sort, "version": version, **more}


async def test_an_item_comes_back_as_it_was_written(table: Table) -> None:
    wanted = item(text='é\n"', empty="", whole=7, part=1764417600.123457, below=-3)

    await table.put(wanted, expected=None)

    found = dict(await table.get("job#x", "a") or {})
    assert found.pop("write_id")
    assert found == wanted
    assert await table.get("job#x", "b") is None
    assert await table.get("job#y", "a") is None


async def test_text_that_is_no_unicode_can_be_kept(table: Table) -> None:
    await table.put(item(text="a\ud800b"), expected=None)

    assert (await table.get("job#x", "a") or {})["text"] == "a?b"


async def test_a_partition_is_in_the_order_of_its_sort_keys(table: Table) -> None:
    for sort in ("b", "a", "c"):
        await table.put(item(sort), expected=None)
    await table.put(item("a", partition="job#other"), expected=None)

    assert [each["sk"] for each in await table.partition("job#x")] == ["a", "b", "c"]
    assert [each["sk"] for each in await table.partition("job#x", consistent=False)] == [
        "a",
        "b",
        "c",
    ]
    assert await table.partition("job#none") == []


async def test_a_write_needs_the_expected_version(table: Table) -> None:
    await table.put(item(says="first"), expected=None)
    with pytest.raises(ConditionFailed):
        await table.put(item(says="not new"), expected=None)
    with pytest.raises(ConditionFailed):
        await table.put(item(version=3, says="too new"), expected=2)

    await table.put(item(version=2, says="second"), expected=1)

    with pytest.raises(ConditionFailed):
        await table.put(item(version=2, says="late"), expected=1)
    assert (await table.get("job#x", "a") or {})["says"] == "second"


async def test_a_write_to_an_item_that_is_gone_fails(table: Table) -> None:
    with pytest.raises(ConditionFailed):
        await table.put(item(version=2), expected=1)

    assert await table.get("job#x", "a") is None


async def test_of_racing_writers_one_wins(table: Table) -> None:
    async def race(number: int) -> bool:
        try:
            await table.put(item(by=number), expected=None)
        except ConditionFailed:
            return False
        return True

    won = await asyncio.gather(*map(race, range(20)))

    assert sum(won) == 1
    assert (await table.get("job#x", "a") or {})["by"] == won.index(True)


async def test_a_delete_needs_the_expected_version(table: Table) -> None:
    await table.put(item(), expected=None)
    await table.put(item(version=2), expected=1)
    with pytest.raises(ConditionFailed):
        await table.delete("job#x", "a", expected=1)
    assert await table.get("job#x", "a") is not None

    await table.delete("job#x", "a", expected=2)
    await table.delete("job#x", "a", expected=2)  # it is gone

    assert await table.get("job#x", "a") is None


async def test_an_index_has_the_items_of_a_key_by_their_time(table: Table) -> None:
    for number in range(5):
        await table.put(
            item(f"{number}", outcome="synced#0", changed_at=100.5 + number, row=f"row {number}"),
            expected=None,
        )
    await table.put(item("other", outcome="rejected#0", changed_at=101.5), expected=None)
    await table.put(item("in no index"), expected=None)

    def said(page: Page) -> list[object]:
        return [each["row"] for each in page.items]

    outcomes = Index.BY_OUTCOME
    everything = await table.index(outcomes, "synced#0")
    assert said(everything) == [f"row {number}" for number in (4, 3, 2, 1, 0)]
    assert everything.next is None
    oldest_first = await table.index(outcomes, "synced#0", newest_first=False, limit=2)
    assert said(oldest_first) == ["row 0", "row 1"]
    between = await table.index(outcomes, "synced#0", after=101.5, before=103.5)
    assert said(between) == ["row 2", "row 1"]
    assert said(await table.index(outcomes, "synced#0", after=103.5)) == ["row 4", "row 3"]
    assert said(await table.index(outcomes, "synced#0", after=103.5, before=103.5)) == []
    assert said(await table.index(outcomes, "synced#1")) == []
    assert said(await table.index(Index.BY_GROUP, "synced#0")) == []


async def test_an_index_is_read_page_by_page(table: Table) -> None:
    for number in range(5):
        await table.put(
            item(f"{number}", group="project#churn", changed_at=100 + number, row="x"),
            expected=None,
        )

    pages, at = [], None
    while True:
        page = await table.index(Index.BY_GROUP, "project#churn", limit=2, page=at)
        pages.append([each["sk"] for each in page.items])
        if (at := page.next) is None:
            break

    assert [sort for page in pages for sort in page] == ["4", "3", "2", "1", "0"]
    assert max(map(len, pages)) == 2


async def test_an_item_that_leaves_a_key_leaves_its_index(table: Table) -> None:
    await table.put(item(outcome="writing#0", changed_at=1, row="x"), expected=None)
    await table.put(item(version=2, outcome="synced#0", changed_at=2, row="x"), expected=1)

    assert await table.count(Index.BY_OUTCOME, "writing#0") == 0
    assert await table.count(Index.BY_OUTCOME, "synced#0") == 1
