"""``check``: is the configuration right, and does every edge answer?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.check import ask_every_edge
from daemon.cli.common import add_config_option, settings_of
from daemon.observability.logs import configure_logging, printable

if TYPE_CHECKING:
    import argparse

    from daemon.config.settings import Settings


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "check",
        help="validates the configuration and asks every edge",
        description="Validates the configuration, then asks the queue, its dead-letter queue, "
        "SageMaker, the checkpoint and the "
        "target. One line each. Nothing is received and nothing is written but a probe in the "
        "checkpoint.",
    )
    add_config_option(parser)
    parser.add_argument("--offline", action="store_true", help="only the configuration")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    configure_logging("error", "console")
    print("ok    configuration")
    return 0 if arguments.offline else asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> int:
    failed = False
    async for finding in ask_every_edge(settings):
        failed = failed or not finding.ok
        word = "ok   " if finding.ok else "FAIL "
        print(
            printable(f"{word} {finding.what}{': ' if finding.detail else ''}{finding.detail}"),
            flush=True,
        )
        for advice in finding.advice:
            print(printable(f"      note: {advice}"), flush=True)
    return 1 if failed else 0
