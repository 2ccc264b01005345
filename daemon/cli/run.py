"""``run``: runs the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from daemon.app import Daemon
from daemon.cli.common import add_config_option, settings_of, start_logging

if TYPE_CHECKING:
    import argparse

    from daemon.config.settings import Settings


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "run",
        help="run the daemon",
        description="Runs the daemon until SIGTERM or SIGINT, then shuts down gracefully: messages "
        "in flight are finished or released within shutdown.grace_seconds. A second signal "
        "exits at once. Exit status: 0 after a graceful shutdown, 1 if a part of the daemon "
        "crashed, 2 for a configuration error.",
    )
    add_config_option(parser)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    start_logging(settings)
    asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    daemon = Daemon(settings)
    asked = False

    def on_signal(number: int) -> None:
        nonlocal asked
        # a second signal exits at once; the next start recovers calls without an answer
        if asked:
            os._exit(128 + number)
        asked = True
        daemon.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await daemon.run()
