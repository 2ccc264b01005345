"""Tests the checkpoint's DynamoDB table by calls that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.aws.dynamodb import open_dynamodb
from daemon.checkpoint.dynamodb.claims import CLOCK_SKEW_SECONDS
from daemon.checkpoint.dynamodb.opening import table_place
from daemon.checkpoint.dynamodb.table import EXPIRES_AT
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from daemon.errors import DaemonError, EdgeFault
from daemon.operations.finding import Finding, Verdict
from daemon.operations.when import age_text
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.checkpoint.dynamodb.table_setup import TableSetup
    from daemon.config.settings import DynamoDbSettings

CHECKPOINT, CLOCK = "checkpoint", "clock"
SKEW_WARNING_SECONDS = CLOCK_SKEW_SECONDS / 2
"""Two hosts that are each off by as much are still within what leases allow."""
ONLY_CHECK = "only `check` and `checkpoint create-table` need it"


async def table_findings(settings: DynamoDbSettings) -> Sequence[Finding]:
    """Tests the table. Never raises for what it finds."""
    place = table_place(settings)
    try:
        async with open_dynamodb(place) as client:
            table = TableAdministration(client, place)
            findings = await _setup(table, f"{place} in {place.region or 'the usual region'}")
            if findings[0].verdict is Verdict.FAILED:
                return findings
            return [*findings, *await _permissions(table), *await _expiry(table)]
    except DaemonError as fault:
        detail = fault.detail if isinstance(fault, EdgeFault) else str(fault)
        return [Finding(CHECKPOINT, Verdict.FAILED, detail, "checkpoint.table")]


async def _setup(table: TableAdministration, words: str) -> list[Finding]:
    about = "dynamodb:DescribeTable"
    try:
        setup = await table.setup()
    except EdgeFault as fault:
        if fault.reason is not Reason.ACCESS_DENIED:
            raise
        text = f"its keys are not compared: {fault.detail}; {ONLY_CHECK}"
        return [Finding(CHECKPOINT, Verdict.NOTE, text, about)]
    if setup is None:
        text = f"{words} does not exist: make it with `checkpoint create-table`"
        return [Finding(CHECKPOINT, Verdict.FAILED, text, "checkpoint.table")]
    findings = list(setup_findings(setup, words))
    if findings[0].verdict is Verdict.OK:
        findings += await _recovery(table)
    return findings


def setup_findings(setup: TableSetup, words: str) -> Iterator[Finding]:
    """Judges how a table is set up: first whether it can be used at all. Pure.

    Args:
        setup: of the table.
        words: what it is called.
    """
    about = "dynamodb:DescribeTable"
    if setup.differences:
        yield Finding(
            CHECKPOINT,
            Verdict.FAILED,
            f"{words} is not this program's: {'; '.join(setup.differences)}; choose another "
            "checkpoint.table, and make it with `checkpoint create-table`",
            about,
        )
        return
    if setup.status not in {"ACTIVE", "UPDATING"}:
        text = f"{words} is {setup.status}: it cannot be used now"
        yield Finding(CHECKPOINT, Verdict.FAILED, text, about)
        return
    yield Finding(CHECKPOINT, Verdict.OK, f"{words} has this program's keys and indexes", about)
    if setup.capacity is None:
        yield Finding(CHECKPOINT, Verdict.OK, "its capacity is on-demand", "BillingMode")
    else:
        read, write = setup.capacity.read, setup.capacity.write
        text = (
            f"its capacity is provisioned: {read} reads and {write} writes a second; what is above "
            "that is throttled, and then messages are held"
        )
        yield Finding(CHECKPOINT, Verdict.NOTE, text, "BillingMode")
    if setup.deletion_protection is False:
        text = "its deletion protection is off: who deletes it by mistake loses the history"
        yield Finding(CHECKPOINT, Verdict.NOTE, text, "DeletionProtectionEnabled")
    if setup.replicas:
        text = (
            "it is a global table: a condition holds within one region only, so two regions may "
            "both take a claim; let all daemons of the table use one region"
        )
        yield Finding(CHECKPOINT, Verdict.WARNING, text, "Replicas")
    yield from clock_findings(setup.clock_ahead_seconds)


def clock_findings(ahead_seconds: float | None) -> Iterator[Finding]:
    """Compares DynamoDB's clock with this machine's: leases are times. Pure.

    Args:
        ahead_seconds: of DynamoDB's clock; None: it does not tell the time.
    """
    if ahead_seconds is None:
        return
    off = abs(ahead_seconds)
    if off <= SKEW_WARNING_SECONDS:
        text = "this machine and DynamoDB agree on the time"
        yield Finding(CLOCK, Verdict.OK, text, "Date")
        return
    direction = "behind" if ahead_seconds > 0 else "ahead of"
    text = (
        f"this machine's clock is {age_text(off)} {direction} that of DynamoDB, and the clocks of "
        f"the daemons that share a table may differ by {CLOCK_SKEW_SECONDS:g} s: synchronise it "
        "(NTP)"
    )
    verdict = Verdict.WARNING if off <= CLOCK_SKEW_SECONDS else Verdict.FAILED
    yield Finding(CLOCK, verdict, text, "Date")


async def _permissions(table: TableAdministration) -> Sequence[Finding]:
    findings = []
    for action, call in table.harmless_calls().items():
        try:
            await call
        except EdgeFault as fault:
            findings.append(Finding(CHECKPOINT, Verdict.FAILED, fault.detail, action))
        else:
            findings.append(Finding(CHECKPOINT, Verdict.OK, f"{action} is allowed", action))
    return findings


async def _expiry(table: TableAdministration) -> Sequence[Finding]:
    about = "dynamodb:DescribeTimeToLive"
    try:
        expires_by = await table.expires_by()
    except EdgeFault as fault:
        text = f"whether its TTL is on cannot be seen: {fault.detail}; the daemon deletes old rows"
        return [Finding(CHECKPOINT, Verdict.NOTE, text, about)]
    if expires_by is None:
        return []
    if expires_by == EXPIRES_AT:
        return [Finding(CHECKPOINT, Verdict.OK, f"its TTL is on ({EXPIRES_AT})", about)]
    state = f"is on attribute {expires_by}" if expires_by else "is off"
    text = (
        f"its TTL {state}: the daemon deletes old rows, which costs a write each; switch it on for "
        f"{EXPIRES_AT} (`checkpoint create-table` does)"
    )
    return [Finding(CHECKPOINT, Verdict.WARNING, text, about)]


async def _recovery(table: TableAdministration) -> Sequence[Finding]:
    about = "dynamodb:DescribeContinuousBackups"
    try:
        is_on = await table.point_in_time_recovery()
    except EdgeFault as fault:
        text = f"whether point-in-time recovery is on cannot be seen: {fault.detail}; {ONLY_CHECK}"
        return [Finding(CHECKPOINT, Verdict.NOTE, text, about)]
    if is_on is None:
        return []
    if is_on:
        return [Finding(CHECKPOINT, Verdict.OK, "its point-in-time recovery is on", about)]
    text = "its point-in-time recovery is off: a table that is damaged cannot be put back"
    return [Finding(CHECKPOINT, Verdict.NOTE, text, about)]
