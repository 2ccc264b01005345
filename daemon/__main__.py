"""Entry point of ``python -m daemon`` and of the console script."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def main() -> int:
    """Runs one verb of the command line.

    Returns:
        The exit status (`daemon.cli.main`).
    """
    # Process 1 of a container ignores SIGTERM without a handler, so a stop during the imports would
    # wait for SIGKILL.
    signal.signal(signal.SIGTERM, _end)
    gc.disable()  # what the imports make stays: looking through it was a quarter of the start
    from daemon.cli import main as run_verb  # noqa: PLC0415 - takes most of a second, during which a stop can arrive

    gc.freeze()
    gc.enable()
    return run_verb()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Exits at once. ``run`` replaces this handler with its own."""
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
