"""``run``: runs the daemon."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from typing import TYPE_CHECKING

import structlog

from daemon.app import Daemon
from daemon.cli.common import add_config_option, add_verb, settings_of, start_logging
from daemon.targets.registry import PLUG_INS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from daemon.config.settings import Settings


log = structlog.get_logger(__name__)

_LAST_WORDS_SECONDS = 1.0


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "run",
        summary="run the daemon",
        description="Runs the daemon until SIGTERM or SIGINT, then shuts down gracefully: messages "
        "in flight are finished or released within shutdown.grace_seconds. A second signal "
        "exits at once. Exit status: 0 after a graceful shutdown, 1 if a part of the daemon "
        "crashed or the shutdown left something behind (its log line says what), 2 for a "
        "configuration error.",
        examples=[
            ("run", "runs with /etc/modeldb-sync/config.yaml and the environment"),
            ("run --config config.yaml", "runs with a configuration file"),
        ],
    )
    add_config_option(parser)
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    start_logging(settings)
    for plug_in in PLUG_INS:
        if plug_in.fault:
            log.warning("a plug-in cannot be used", plug_in=str(plug_in), problem=plug_in.fault)
    return 1 if asyncio.run(_run(settings)) else 0


async def _run(settings: Settings) -> Sequence[str]:
    """Returns what the stop left behind, in words."""
    last_resort = _LastResort(settings.shutdown.grace_seconds)
    daemon = Daemon(settings, on_started=_keep_what_was_built, on_stopping=last_resort.arm)
    asked = False

    def on_signal(number: int) -> None:
        nonlocal asked
        # a second signal exits at once; the next start recovers calls without an answer
        if asked:
            os._exit(128 + number)
        asked = True
        last_resort.arm()
        daemon.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await daemon.run()
    return daemon.unclean


def _keep_what_was_built() -> None:
    """Takes all that the daemon is built of out of the garbage collection, which then looks at jobs
    only.
    """
    gc.collect()
    gc.freeze()


class _LastResort:
    """Ends the process just before the grace time does, whatever keeps it: a thread that hangs in a
    system call (DNS, a disk), or an event loop that does.

    Args:
        grace_seconds: from the first call of `arm` on.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._timers = (
            threading.Timer(grace_seconds - _LAST_WORDS_SECONDS, self._say),
            # a timer of its own, because writing the log may hang, too
            threading.Timer(grace_seconds - _LAST_WORDS_SECONDS / 2, os._exit, (1,)),
        )
        self._armed = False

    def arm(self) -> None:
        """Starts to count, once. The process may end before."""
        if self._armed:
            return
        self._armed = True
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    @staticmethod
    def _say() -> None:
        log.error("the stop did not end in time; the process ends without it")
