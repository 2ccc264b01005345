"""What `run` does beside the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def in_a_process(code: str, *arguments: str) -> list[str]:
    """The lines that it printed. `run` counts down to the end of its process once it stops, which
    must not be that of the tests.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        },
    )
    return done.stdout.splitlines()


def test_what_was_built_is_kept_when_the_daemon_has_started(tmp_path: Path) -> None:
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from daemon.cli import run
from tests.support.settings_factory import settings_of_nowhere

def keep_and_stop() -> None:
    print("kept")
    os.kill(os.getpid(), signal.SIGTERM)

run._keep_what_was_built = keep_and_stop
asyncio.run(run._run(settings_of_nowhere(Path(sys.argv[1]))))
"""
    assert in_a_process(code, str(tmp_path / "checkpoint.db")).count("kept") == 1


def test_what_is_kept_is_collected_no_more() -> None:
    code = (
        "import gc\n"
        "from daemon.cli import run\n"
        "run._keep_what_was_built()\n"
        "print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 5_000, gc.isenabled())\n"
    )
    assert in_a_process(code) == ["True True True"]
