"""``checkpoint``: makes the table of a shared checkpoint."""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb.table_setup import Capacity
from daemon.cli.check import show
from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.observability.logs import configure_logging
from daemon.operations.create_table import create_table
from daemon.operations.finding import Verdict

if TYPE_CHECKING:
    from daemon.config.settings import Settings


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "checkpoint",
        summary="make the DynamoDB table of a shared checkpoint",
        description="Prepares what the checkpoint is kept in. A checkpoint of kind sqlite needs "
        "nothing: the daemon makes its file.",
        examples=[("checkpoint create-table", "makes the table that checkpoint.table names")],
    )
    of_checkpoint = parser.add_subparsers(metavar="WHAT", required=True)
    _add_create_table(of_checkpoint)


def _add_create_table(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "create-table",
        summary="make the table, or say how the one that is there differs",
        description="Makes the DynamoDB table of checkpoint.kind dynamodb with its indexes, TTL, "
        "deletion protection and point-in-time recovery, and waits until it can be used. Of a "
        "table that is there already only the TTL is switched on. Prints one line per finding, as "
        "'check' does. Needs permissions that the daemon does not: dynamodb:CreateTable, "
        "DescribeTable, UpdateTimeToLive, DescribeTimeToLive, UpdateContinuousBackups. Exit "
        "status: 1 if the table cannot be used.",
        examples=[
            ("checkpoint create-table", "an on-demand table, as the configuration names it"),
            (
                "checkpoint create-table --provisioned 5,10",
                "5 reads and 10 writes a second, for the table and for each index",
            ),
        ],
    )
    add_config_option(parser)
    parser.add_argument(
        "--provisioned",
        type=_capacity,
        metavar="READS,WRITES",
        help="capacity units of a new table and of each index (default: on-demand)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per line: subject, verdict (ok, note, warning, failed), text, about",
    )
    parser.set_defaults(act=_create_table, interrupted="interrupted: run the same command again")


def _create_table(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    configure_logging("error", "console")
    return asyncio.run(_make(settings, arguments.provisioned, as_json=arguments.json))


async def _make(settings: Settings, capacity: Capacity | None, *, as_json: bool) -> int:
    failed = False
    async for finding in create_table(settings.checkpoint, capacity):
        failed = failed or finding.verdict is Verdict.FAILED
        show(finding, as_json=as_json)
    return 1 if failed else 0


def _capacity(text: str) -> Capacity:
    found = re.fullmatch(r"(?P<read>[1-9]\d{0,6}),(?P<write>[1-9]\d{0,6})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError("must be two whole numbers above 0, such as 5,10")
    return Capacity(int(found["read"]), int(found["write"]))
