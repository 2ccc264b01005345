"""Entry of ``python -m daemon`` and of the console script."""

from __future__ import annotations

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
    # Process 1 of a container has no default action for SIGTERM: without a handler a stop during
    # the imports would wait for SIGKILL.
    signal.signal(signal.SIGTERM, _end)
    from daemon.cli import main as run_verb  # noqa: PLC0415 - takes most of a second, in which a stop can already come

    return run_verb()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Nothing has begun yet, or the verb ends by itself; ``run`` puts a handler of its own in this
    one's place.
    """
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
