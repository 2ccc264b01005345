"""Tables of the DynamoDB checkpoint for tests: on moto, and on the dynalite of DYNALITE_URL."""

from __future__ import annotations

import os
import uuid

import pytest

from daemon.aws.dynamodb import DynamoDbPlace, open_dynamodb
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from tests.support.moto_dynamodb import answer_one_at_a_time

REGION = "eu-west-1"
DYNALITE_URL = os.environ.get("DYNALITE_URL", "")
SERVERS = [
    "moto",
    pytest.param(
        "dynalite",
        marks=pytest.mark.skipif(not DYNALITE_URL, reason="DYNALITE_URL does not name a dynalite"),
    ),
]
"""Parameters of a fixture: independent implementations of DynamoDB's API."""


def place_on(server: str, moto_endpoint: str) -> DynamoDbPlace:
    """A table of a name of its own, which does not exist yet."""
    if server == "moto":
        answer_one_at_a_time()
    endpoint = DYNALITE_URL if server == "dynalite" else moto_endpoint
    return DynamoDbPlace(f"checkpoint-{uuid.uuid4().hex[:12]}", REGION, endpoint)


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this process; neither server looks at them."""
    set_credentials(monkeypatch)


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")


async def make_table(place: DynamoDbPlace) -> None:
    """Makes the table as ``checkpoint create-table`` does. The servers forget it when they end."""
    async with open_dynamodb(place) as client:
        await TableAdministration(client, place).create(None)
