"""``check``: validates the configuration and tests every dependency."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.observability.logs import configure_logging, printable
from daemon.operations.check import check
from daemon.operations.finding import Finding, Verdict

if TYPE_CHECKING:
    import argparse

    from daemon.config.settings import Settings

_WORDS = {
    Verdict.OK: "ok",
    Verdict.NOTE: "note",
    Verdict.WARNING: "WARN",
    Verdict.FAILED: "FAIL",
}


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "check",
        summary="validate the configuration and test every dependency",
        description="Validates the configuration, then tests the queue, its dead-letter queue, "
        "SageMaker, the clocks, the checkpoint, the target and the HTTP port: permissions one by "
        "one, and settings that lose jobs some day. Prints one line per finding: ok, note, WARN or "
        "FAIL, the last two with what to do. Receives and sends no messages and writes only a "
        "probe in the checkpoint. Exit status: 1 if one fails; warnings do not.",
        examples=[
            ("check", "tests everything, with the configuration of the daemon"),
            ("check --offline --config config.yaml", "validates a configuration file only"),
            ("check --json | jq -r 'select(.verdict == \"failed\").text'", "what to fix first"),
        ],
    )
    add_config_option(parser)
    parser.add_argument("--offline", action="store_true", help="validate only the configuration")
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per line: subject, verdict (ok, note, warning, failed), text, about",
    )
    parser.set_defaults(act=act, interrupted="interrupted: nothing was changed")


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    configure_logging("error", "console")
    show(Finding("configuration", Verdict.OK), as_json=arguments.json)
    if arguments.offline:
        return 0
    return asyncio.run(_check(settings, as_json=arguments.json))


async def _check(settings: Settings, *, as_json: bool) -> int:
    failed = False
    async for finding in check(settings):
        failed = failed or finding.verdict is Verdict.FAILED
        show(finding, as_json=as_json)
    return 1 if failed else 0


def show(finding: Finding, *, as_json: bool) -> None:
    """Prints a finding."""
    if as_json:
        print(json.dumps(asdict(finding)), flush=True)
        return
    text = f"{finding.subject}: {finding.text}" if finding.text else finding.subject
    print(printable(f"{_WORDS[finding.verdict]:<4}  {text}"), flush=True)
