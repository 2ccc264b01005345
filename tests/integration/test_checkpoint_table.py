"""`checkpoint create-table`, and what `check` says of a table, on every DynamoDB there is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.aws.dynamodb import open_dynamodb
from daemon.checkpoint.dynamodb.table_setup import (
    INDEX_KEYS,
    TABLE_KEYS,
    Keys,
    TableAdministration,
    TableSetup,
)
from daemon.cli import main
from daemon.clock import wall
from daemon.config.settings import DynamoDbSettings
from daemon.operations.check_table import clock_findings, setup_findings, table_findings
from daemon.operations.finding import Finding, Verdict
from tests.support.aws_gate import AwsGate
from tests.support.dynamodb_gate import DynamoDbGate, Fault
from tests.support.dynamodb_tables import REGION, SERVERS, aws_credentials, make_table, place_on

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.aws.dynamodb import DynamoDbPlace

__all__ = ["aws_credentials"]

pytestmark = pytest.mark.usefixtures("no_backoff", "aws_credentials")


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, moto_endpoint: str) -> DynamoDbPlace:
    """Of a table that does not exist yet."""
    return place_on(request.param, moto_endpoint)


on_moto = pytest.mark.parametrize("place", ["moto"], indirect=True)


def settings_of(place: DynamoDbPlace, **more: Any) -> DynamoDbSettings:
    return DynamoDbSettings(
        table=place.table, region=place.region, endpoint_url=place.endpoint_url, **more
    )


def config_of(tmp_path: Path, checkpoint: dict[str, Any]) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "queue": {"url": "http://127.0.0.1:9/123456789012/q"},
                "target": {"url": "http://127.0.0.1:9"},
                "checkpoint": checkpoint,
            }
        )
    )
    return str(path)


def config_at(tmp_path: Path, place: DynamoDbPlace) -> str:
    return config_of(tmp_path, settings_of(place).model_dump(mode="json"))


async def setup_of(place: DynamoDbPlace) -> tuple[TableSetup | None, str | None, bool | None]:
    async with open_dynamodb(place) as client:
        table = TableAdministration(client, place)
        setup = await table.setup()
        if setup is None:
            return None, None, None
        return setup, await table.expires_by(), await table.point_in_time_recovery()


def test_the_table_is_made_as_it_is_to_be(
    place: DynamoDbPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "create-table", "--config", config_at(tmp_path, place)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ok    checkpoint: DynamoDB table {place.table} is made"
    setup, expires_by, recovery = asyncio.run(setup_of(place))
    assert setup is not None
    assert (setup.status, setup.keys, setup.indexes) == ("ACTIVE", TABLE_KEYS, INDEX_KEYS)
    assert setup.capacity is None
    if recovery is None:  # dynalite
        assert "note  checkpoint: this DynamoDB has no TTL: the daemon deletes old rows" in lines
        return
    assert (expires_by, recovery) == ("expires_at", True)
    assert setup.deletion_protection
    assert "ok    checkpoint: its point-in-time recovery is on" in lines
    assert "ok    checkpoint: its TTL is switched on (expires_at)" in lines


def test_a_table_that_is_there_stays_as_it_is(
    place: DynamoDbPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["checkpoint", "create-table", "--config", config_at(tmp_path, place), "--json"]
    assert main(command) == 0
    capsys.readouterr()

    assert main([*command, "--provisioned", "5,10"]) == 0

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0] == {
        "subject": "checkpoint",
        "verdict": "note",
        "text": f"DynamoDB table {place.table} is there already",
        "about": "",
    }
    assert "its capacity is on-demand" in [each["text"] for each in found]


def test_capacity_may_be_provisioned(
    place: DynamoDbPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_at(tmp_path, place)

    assert main(["checkpoint", "create-table", "--provisioned", "5,10", "--config", config]) == 0

    assert "provisioned: 5 reads and 10 writes a second" in capsys.readouterr().out


@pytest.mark.parametrize("capacity", ["5", "0,1", "5,x", "5,10,15"])
def test_other_capacities_are_usage_errors(
    capacity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["checkpoint", "create-table", "--provisioned", capacity])

    assert caught.value.code == 2
    assert "must be two whole numbers above 0" in capsys.readouterr().err


def test_a_checkpoint_in_a_file_needs_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, {"path": str(tmp_path / "c.db")})

    assert main(["checkpoint", "create-table", "--config", config]) == 2

    assert "checkpoint.kind is sqlite, which needs no table" in capsys.readouterr().err


@on_moto
async def test_a_table_of_another_program_is_refused(place: DynamoDbPlace) -> None:
    async with open_dynamodb(place) as client:
        await client.create_table(
            TableName=place.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        )

    [finding] = await table_findings(settings_of(place))

    assert finding.verdict is Verdict.FAILED
    assert "is not this program's: its keys are id (N), not pk (S), sk (S)" in finding.text
    assert "index by_outcome is missing" in finding.text


@on_moto
async def test_a_refused_create_is_an_error_that_names_the_permission(
    place: DynamoDbPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.endpoint_url is not None
    async with AwsGate(place.endpoint_url, {"CreateTable"}) as gate:
        config = config_at(tmp_path, replace(place, endpoint_url=gate.url))
        status = await asyncio.to_thread(main, ["checkpoint", "create-table", "--config", config])

    assert status == 1
    assert "permission dynamodb:CreateTable is missing" in capsys.readouterr().err


async def test_check_asks_for_everything_that_the_daemon_does(place: DynamoDbPlace) -> None:
    await make_table(place)
    assert place.endpoint_url is not None
    async with DynamoDbGate(place.endpoint_url) as gate:
        found = await table_findings(settings_of(replace(place, endpoint_url=gate.url)))

    assert [each.text for each in found if each.verdict is Verdict.FAILED] == []
    assert (
        found[0].text
        == f"DynamoDB table {place.table} in {REGION} has this program's keys and indexes"
    )
    allowed = {each.about for each in found if "is allowed" in each.text}
    assert allowed == {
        *(f"dynamodb:{operation}" for operation in ("GetItem", "PutItem", "DeleteItem", "Query")),
        *(f"dynamodb:Query of index {index}" for index in INDEX_KEYS),
    }
    assert [each.text for each in found if "its TTL is off" in each.text], "nobody switched it on"
    assert {"DescribeTable", "DescribeTimeToLive"} < set(gate.called)


async def test_check_changes_nothing(place: DynamoDbPlace) -> None:
    await make_table(place)
    await table_findings(settings_of(place))
    async with open_dynamodb(place) as client:
        answer = await client.query(
            TableName=place.table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "check#"}},
        )
    assert answer["Items"] == []


@on_moto
async def test_every_missing_permission_on_the_table_is_a_line_that_names_it(
    place: DynamoDbPlace,
) -> None:
    await make_table(place)
    denied = {
        "GetItem": Verdict.FAILED,
        "PutItem": Verdict.FAILED,
        "DeleteItem": Verdict.FAILED,
        "Query": Verdict.FAILED,
        "DescribeTable": Verdict.NOTE,
        "DescribeTimeToLive": Verdict.NOTE,
    }
    assert place.endpoint_url is not None
    async with AwsGate(place.endpoint_url, denied) as gate:
        found = await table_findings(settings_of(replace(place, endpoint_url=gate.url)))

    for operation, verdict in denied.items():
        named = [each for each in found if f"permission dynamodb:{operation} is" in each.text]
        assert {each.verdict for each in named} == {verdict}, operation


async def test_a_table_that_is_not_there_is_to_be_made(place: DynamoDbPlace) -> None:
    [finding] = await table_findings(settings_of(place))

    assert finding.verdict is Verdict.FAILED
    assert "does not exist: make it with `checkpoint create-table`" in finding.text


@on_moto
async def test_a_dynamodb_that_cannot_be_asked_is_one_line(place: DynamoDbPlace) -> None:
    assert place.endpoint_url is not None
    async with DynamoDbGate(place.endpoint_url) as gate:
        gate.fault = Fault("InternalServerError", status=500)
        [finding] = await table_findings(settings_of(replace(place, endpoint_url=gate.url)))

    assert finding.verdict is Verdict.FAILED
    assert "DynamoDB is unavailable" in finding.text


@pytest.mark.parametrize(
    ("off", "verdict"),
    [(0, Verdict.OK), (-14, Verdict.OK), (16, Verdict.WARNING), (-31, Verdict.FAILED)],
)
def test_a_clock_that_is_off_is_found_before_leases_suffer(off: float, verdict: Verdict) -> None:
    [finding] = clock_findings(off)
    assert (finding.subject, finding.verdict) == ("clock", verdict)
    assert ("synchronise it" in finding.text) is (verdict is not Verdict.OK)


@on_moto
async def test_the_clock_is_compared_with_that_of_dynamodb(
    place: DynamoDbPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_table(place)
    monkeypatch.setattr("daemon.http_date.wall", lambda: wall() - 20)

    [clock] = [each for each in await table_findings(settings_of(place)) if each.subject == "clock"]

    assert clock.verdict is Verdict.WARNING
    assert "behind that of DynamoDB" in clock.text


GOOD = TableSetup("ACTIVE", TABLE_KEYS, INDEX_KEYS, deletion_protection=True)


@pytest.mark.parametrize(
    ("setup", "verdict", "said"),
    [
        (replace(GOOD, status="CREATING"), Verdict.FAILED, "is CREATING: it cannot be used now"),
        (replace(GOOD, deletion_protection=False), Verdict.NOTE, "deletion protection is off"),
        (replace(GOOD, replicas=2), Verdict.WARNING, "it is a global table"),
        (
            replace(GOOD, indexes={**INDEX_KEYS, "by_group": Keys(("group", "S"), None)}),
            Verdict.FAILED,
            "index by_group has group (S), not group (S), changed_at (N) with row",
        ),
        (
            replace(
                GOOD,
                indexes={
                    **INDEX_KEYS,
                    "by_group": replace(INDEX_KEYS["by_group"], projected=frozenset()),
                },
            ),
            Verdict.FAILED,
            "with keys only",
        ),
    ],
)
def test_a_setup_is_judged(setup: TableSetup, verdict: Verdict, said: str) -> None:
    found: list[Finding] = list(setup_findings(setup, "the table"))
    assert [each.verdict for each in found if said in each.text] == [verdict]


def test_an_index_may_hold_more_than_is_needed() -> None:
    more = {name: replace(keys, projected=None) for name, keys in INDEX_KEYS.items()}
    assert replace(GOOD, indexes=more).differences == []
