"""The permissions for a checkpoint in DynamoDB are exactly those that the code needs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from daemon.checkpoint.dynamodb.table import ConditionFailed, Index
from daemon.config.settings import DynamoDbSettings
from daemon.operations.check_table import table_findings
from tests.deploy.aws_calls import ROOT
from tests.support.dynamodb_gate import DynamoDbGate
from tests.support.dynamodb_tables import aws_credentials, make_table, place_on

if TYPE_CHECKING:
    from daemon.aws.dynamodb import DynamoDbPlace
    from daemon.checkpoint.dynamodb.table import Item

__all__ = ["aws_credentials"]

TABLE = "arn:aws:dynamodb:REGION:ACCOUNT:table/modeldb-sync"
POLICY = json.loads((ROOT / "deploy/iam/dynamodb-policy.json").read_text(encoding="utf-8"))


def granted(resource: str) -> set[str]:
    return {
        action.removeprefix("dynamodb:")
        for statement in POLICY["Statement"]
        if statement["Resource"] == resource
        for action in statement["Action"]
    }


@pytest.mark.usefixtures("aws_credentials")
async def test_the_policy_is_what_the_code_calls(moto_endpoint: str) -> None:
    place = place_on("moto", moto_endpoint)
    await make_table(place)
    assert place.endpoint_url is not None
    async with DynamoDbGate(place.endpoint_url) as gate:
        seen = replace(place, endpoint_url=gate.url)
        await use_everything(seen)
        called = set(gate.called)
        gate.called.clear()
        await table_findings(
            DynamoDbSettings(table=seen.table, region=seen.region, endpoint_url=seen.endpoint_url)
        )
        called |= set(gate.called)

    assert granted(TABLE) == called
    assert granted(f"{TABLE}/index/*") == {"Query"}
    assert {statement["Effect"] for statement in POLICY["Statement"]} == {"Allow"}
    assert len(POLICY["Statement"]) == 3


async def use_everything(place: DynamoDbPlace) -> None:
    """Every method of the table."""
    table = await open_aws_table(place)
    await table.expires()
    item: Item = {"pk": "job#x", "sk": "a", "version": 1}
    await table.put(item, expected=None)
    with contextlib.suppress(ConditionFailed):
        await table.put(item, expected=None)
    await table.get("job#x", "a")
    await table.partition("job#x")
    await table.index(Index.BY_OUTCOME, "synced#0")
    await table.count(Index.BY_GROUP, "project#churn")
    await table.delete("job#x", "a", expected=1)
    await table.aclose()
