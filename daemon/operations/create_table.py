"""Makes the checkpoint's DynamoDB table, or says how one that is there differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.aws.dynamodb import open_dynamodb
from daemon.checkpoint.dynamodb.opening import table_place
from daemon.checkpoint.dynamodb.table import EXPIRES_AT
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from daemon.config.settings import DynamoDbSettings
from daemon.errors import SetupFault
from daemon.operations.check_table import CHECKPOINT, setup_findings
from daemon.operations.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.checkpoint.dynamodb.table_setup import Capacity
    from daemon.config.settings import CheckpointSettings


async def create_table(
    settings: CheckpointSettings, capacity: Capacity | None
) -> AsyncIterator[Finding]:
    """Makes the table unless it is there, and switches its TTL on. Safe to repeat.

    Args:
        settings: the section ``checkpoint``.
        capacity: of a new table; None: on-demand.

    Raises:
        SetupFault: the checkpoint is no table.
        EdgeFault: DynamoDB refuses or does not answer.
    """
    if not isinstance(settings, DynamoDbSettings):
        raise SetupFault(
            f"checkpoint.kind is {settings.kind}, which needs no table; set it to dynamodb, and "
            "checkpoint.table"
        )
    place = table_place(settings)
    async with open_dynamodb(place) as client:
        table = TableAdministration(client, place)
        found = await table.setup()
        if found is None:
            await table.create(capacity)
            yield Finding(CHECKPOINT, Verdict.OK, f"{place} is made", "dynamodb:CreateTable")
            found = await table.setup()
            if await table.switch_on_recovery():
                text = "its point-in-time recovery is on"
                yield Finding(CHECKPOINT, Verdict.OK, text, "dynamodb:UpdateContinuousBackups")
        else:
            yield Finding(CHECKPOINT, Verdict.NOTE, f"{place} is there already")
        if found is None:
            raise SetupFault(f"{place} was deleted while it was made")
        findings = list(setup_findings(found, str(place)))
        for finding in findings:
            yield finding
        if findings[0].verdict is not Verdict.FAILED:
            yield await _with_expiry(table)


async def _with_expiry(table: TableAdministration) -> Finding:
    about = "dynamodb:UpdateTimeToLive"
    expires_by = await table.expires_by()
    if expires_by == EXPIRES_AT:
        return Finding(CHECKPOINT, Verdict.OK, f"its TTL is on ({EXPIRES_AT})", about)
    if expires_by:
        text = (
            f"its TTL is on attribute {expires_by}, not {EXPIRES_AT}: the daemon deletes old rows; "
            "switch it off, wait an hour and repeat this"
        )
        return Finding(CHECKPOINT, Verdict.WARNING, text, about)
    if expires_by is None or not await table.switch_on_expiry():
        text = "this DynamoDB has no TTL: the daemon deletes old rows"
        return Finding(CHECKPOINT, Verdict.NOTE, text, about)
    return Finding(CHECKPOINT, Verdict.OK, f"its TTL is switched on ({EXPIRES_AT})", about)
