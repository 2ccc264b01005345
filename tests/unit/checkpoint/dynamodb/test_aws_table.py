"""The table in DynamoDB when DynamoDB refuses, throttles, or its answers are lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.aws import dynamodb
from daemon.aws.dynamodb import DynamoDbPlace, open_dynamodb
from daemon.checkpoint.dynamodb import aws_table as module
from daemon.checkpoint.dynamodb.aws_table import AwsTable, open_aws_table
from daemon.checkpoint.dynamodb.table import ConditionFailed, Index
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Edge, Reason
from tests.support.dynamodb_gate import THROTTLED, DynamoDbGate, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from daemon.checkpoint.dynamodb.table import Item

ITEM: Item = {"pk": "job#x", "sk": "a", "version": 1, "says": "it"}


@pytest.fixture
async def gate(
    place: DynamoDbPlace, aws_table: AwsTable, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DynamoDbGate]:
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_arguments: 0
    )
    assert place.endpoint_url is not None
    async with DynamoDbGate(place.endpoint_url) as gate:
        yield gate


@pytest.fixture
def calls() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
async def table(
    place: DynamoDbPlace, gate: DynamoDbGate, calls: list[tuple[str, str, str]]
) -> AsyncIterator[AwsTable]:
    table = await open_aws_table(
        replace(place, endpoint_url=gate.url), lambda *call: calls.append(call)
    )
    yield table
    await table.aclose()


FAULTS = [
    # code, message, status, reason, part of the detail
    (THROTTLED, "The level of configured…", 400, Reason.THROTTLED, "switch the table to on-demand"),
    ("RequestLimitExceeded", "Throughput exceeds", 400, Reason.THROTTLED, "backs off and retries"),
    ("ThrottlingException", "Rate", 400, Reason.THROTTLED, "backs off and retries"),
    ("LimitExceededException", "Too many", 400, Reason.THROTTLED, "backs off and retries"),
    ("InternalServerError", "", 500, Reason.UNAVAILABLE, "backs off and retries"),
    ("ServiceUnavailable", "", 503, Reason.UNAVAILABLE, "backs off and retries"),
    ("TransactionConflictException", "", 400, Reason.UNAVAILABLE, "changes the same item"),
    ("ReplicatedWriteConflictException", "", 400, Reason.UNAVAILABLE, "changes the same item"),
    ("ResourceInUseException", "", 400, Reason.UNAVAILABLE, "being made or changed"),
    ("ValidationException", "too large", 400, Reason.STORAGE, "too large"),
    ("ItemCollectionSizeLimitExceededException", "", 400, Reason.STORAGE, "refuses an item"),
    ("ResourceNotFoundException", "", 400, Reason.NOT_FOUND, "`checkpoint create-table`"),
    ("UnrecognizedClientException", "", 400, Reason.CREDENTIALS, "renew or correct them"),
    ("InvalidSignatureException", "", 400, Reason.CREDENTIALS, "check the clock"),
    (
        "AccessDeniedException",
        "User: arn:aws:iam::1:role/r is not authorized to perform: dynamodb:PutItem on resource: x",
        400,
        Reason.ACCESS_DENIED,
        "permission dynamodb:PutItem is missing on x: allow it for arn:aws:iam::1:role/r",
    ),
    ("SomethingNew", "never seen", 400, Reason.STORAGE, "never seen"),
]
LASTING = {Reason.NOT_FOUND}


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_refusals_are_faults_of_the_checkpoint(
    table: AwsTable, gate: DynamoDbGate, subtests: pytest.Subtests
) -> None:
    for code, message, status, reason, detail in FAULTS:
        with subtests.test(code):
            gate.fault = Fault(code, message, status)

            with pytest.raises(EdgeFault) as caught:
                await table.put(ITEM, expected=None)

            fault = caught.value
            assert (fault.edge, fault.reason) == (Edge.CHECKPOINT, reason)
            assert detail in fault.detail
            assert fault.curable is (reason not in LASTING)
            assert table.place.table in fault.detail
    gate.fault = None
    await table.put(ITEM, expected=None)


CALLS: list[tuple[str, Callable[[AwsTable], Awaitable[object]]]] = [
    ("GetItem", lambda table: table.get("job#x", "a")),
    ("Query", lambda table: table.partition("job#x")),
    ("PutItem", lambda table: table.put(ITEM, expected=None)),
    ("DeleteItem", lambda table: table.delete("job#x", "a", expected=1)),
    ("Query", lambda table: table.index(Index.BY_GROUP, "project#churn")),
    ("Query", lambda table: table.count(Index.BY_GROUP, "project#churn")),
]


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_every_call_survives_a_short_throttling_and_reports_a_longer_one(
    table: AwsTable,
    gate: DynamoDbGate,
    calls: list[tuple[str, str, str]],
    subtests: pytest.Subtests,
) -> None:
    for number, (operation, call) in enumerate(CALLS):
        with subtests.test(f"{operation} {number}"):
            gate.called.clear()
            calls.clear()
            gate.fault = Fault(THROTTLED, times=2)
            await call(table)
            assert gate.called == [operation] * 3

            gate.called.clear()
            gate.fault = Fault(THROTTLED)
            with pytest.raises(EdgeFault):
                await call(table)
            assert gate.called == [operation] * dynamodb.ATTEMPTS
            assert calls == [("dynamodb", operation, "ok"), ("dynamodb", operation, "throttled")]


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_what_rules_read_is_strongly_consistent(table: AwsTable, gate: DynamoDbGate) -> None:
    await table.get("job#x", "a")
    await table.partition("job#x")
    await table.partition("job#x", consistent=False)

    assert [request["ConsistentRead"] for request in gate.requests] == [True, True, False]


async def test_a_write_whose_answer_was_lost_is_recognised(
    table: AwsTable, gate: DynamoDbGate
) -> None:
    gate.fault = Fault(operations={"PutItem"}, times=2)

    await table.put(ITEM, expected=None)
    await table.put({**ITEM, "version": 2}, expected=1)

    assert gate.refused == 2
    assert (await table.get("job#x", "a") or {})["version"] == 2


async def test_a_lost_answer_hides_no_write_of_another(table: AwsTable, gate: DynamoDbGate) -> None:
    await table.put(ITEM, expected=None)
    gate.fault = Fault(operations={"PutItem"}, times=1)

    with pytest.raises(ConditionFailed):
        await table.put(ITEM, expected=None)


async def test_a_delete_whose_answer_was_lost_is_done(table: AwsTable, gate: DynamoDbGate) -> None:
    await table.put(ITEM, expected=None)
    gate.fault = Fault(operations={"DeleteItem"}, times=1)

    await table.delete("job#x", "a", expected=1)

    assert await table.get("job#x", "a") is None


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_failed_condition_is_counted_as_refused(
    table: AwsTable, calls: list[tuple[str, str, str]]
) -> None:
    await table.put(ITEM, expected=None)
    calls.clear()

    with pytest.raises(ConditionFailed):
        await table.put(ITEM, expected=None)

    assert calls == [("dynamodb", "PutItem", "refused"), ("dynamodb", "GetItem", "ok")]


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_silent_server_is_unreachable_after_a_while(
    table: AwsTable, gate: DynamoDbGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.fault = Fault(silent_seconds=30)

    with monkeypatch.context() as patch:
        patch.setattr(module, "CALL_SECONDS", 0.2)
        with pytest.raises(EdgeFault, match="no answer") as caught:
            await table.get("job#x", "a")

    assert caught.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize("place", ["moto"], indirect=True)
async def test_a_web_page_is_not_an_empty_table(table: AwsTable, gate: DynamoDbGate) -> None:
    gate.fault = Fault(page="<html>login</html>")

    with pytest.raises(EdgeFault) as caught:
        await table.get("job#x", "a")

    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, False)


async def test_an_address_where_nothing_listens_is_unreachable(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_arguments: 0
    )
    url = f"http://127.0.0.1:{free_port()}"
    table = await open_aws_table(DynamoDbPlace("t", "eu-west-1", url))

    with pytest.raises(EdgeFault, match=r"checkpoint\.endpoint_url") as caught:
        await table.get("job#x", "a")
    await table.aclose()

    assert (caught.value.reason, caught.value.curable) == (Reason.UNREACHABLE, True)


async def test_without_credentials_the_fault_says_where_they_were_looked_for() -> None:
    table = await open_aws_table(DynamoDbPlace("t", "eu-west-1", "http://127.0.0.1:9"))

    with pytest.raises(EdgeFault, match="AWS_ACCESS_KEY_ID is not set") as caught:
        await table.get("job#x", "a")
    await table.aclose()

    assert (caught.value.edge, caught.value.reason) == (Edge.CHECKPOINT, Reason.CREDENTIALS)


async def test_a_region_is_needed() -> None:
    with pytest.raises(SetupFault, match=r"set checkpoint\.region, aws\.region or AWS_REGION"):
        async with open_dynamodb(DynamoDbPlace("t")):
            pass


async def test_the_region_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")

    async with open_dynamodb(DynamoDbPlace("t")) as client:
        assert client.meta.endpoint_url == "https://dynamodb.eu-central-1.amazonaws.com"  # type: ignore[attr-defined] # botocore's


async def test_an_unreadable_aws_file_is_waited_for(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "sync")

    with pytest.raises(EdgeFault) as caught:
        async with open_dynamodb(DynamoDbPlace("t", "eu-west-1")):
            pass

    assert caught.value.edge is Edge.CHECKPOINT
