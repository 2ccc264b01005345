"""Runs a command for as long as its own standard input is open: ``python -m
daemon.demo.mlflow.guard COMMAND...``.

MLflow's server is several processes, and some survive the end of the first. The guard is the leader
of their process group, and ends the whole group when whoever started it closes its standard input
or ends, however that happens. It ends with the command, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def _end_with(child: subprocess.Popen[bytes]) -> None:
    child.wait()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Returns never: the guard ends with its process group."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - the demo's own
    threading.Thread(target=_end_with, args=(child,), daemon=True).start()
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
