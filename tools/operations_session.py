"""Writes the session in docs/operations.md: plays the commands that `demo --keep` suggests, as a
new user would, and keeps what they print.

    python -m tools.operations_session [--target modeldb-v1]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "operations.md"
HEADING = "## A session from start to end\n"
FOLLOWS_SECONDS = 3.0
"""How long a command that does not end is shown."""
LONGEST_LINE = 160
_SUGGESTED = re.compile(r"(?m)^  (?P<command>\S.*?) +# (?P<what>.+)$")
_INTRODUCTION = """
What `sagemaker-modeldb-sync demo --keep` suggests, typed one after the other (written by
`python -m tools.operations_session`; times and ids differ each time, long lines are cut):

"""


def main() -> int:
    """Runs the demo and the commands; writes the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="modeldb-v2", help="kind of ModelDB")
    parser.add_argument("--print", action="store_true", help="print, and leave the document alone")
    arguments = parser.parse_args()
    demo = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-u", "-m", "daemon", "demo", "--keep", "--target", arguments.target],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        session = _play(_suggestions(demo))
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
    if arguments.print:
        sys.stdout.write(session)
        return 0
    text = DOCUMENT.read_text(encoding="utf-8")
    before = text.partition(HEADING)[0]
    DOCUMENT.write_text(f"{before}{HEADING}{_INTRODUCTION}```\n{session}```\n", encoding="utf-8")
    return 0


def _suggestions(demo: subprocess.Popen[str]) -> list[tuple[str, str]]:
    """Each a command and what it is for."""
    assert demo.stdout is not None  # noqa: S101 - for the type checker
    shown = ""
    for line in demo.stdout:
        shown += line
        if "--follow" in line:
            return [(each["command"], each["what"]) for each in _SUGGESTED.finditer(shown)]
    raise SystemExit(f"the demo has failed:\n{shown}")


def _play(suggested: list[tuple[str, str]]) -> str:
    """What a terminal shows of the commands."""
    (environment, _), *commands = suggested
    lines = []
    for command, what in commands:
        lines += [f"$ {command}    # {what}", *_output(environment, command), ""]
    return "\n".join(
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in lines
    )


def _output(environment: str, command: str) -> list[str]:
    shell = subprocess.Popen(  # noqa: S603 - the demo's own suggestions
        ["/bin/sh", "-c", f"{environment}\nexec {command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
    )
    if command.endswith("--follow"):
        time.sleep(FOLLOWS_SECONDS)
        shell.send_signal(signal.SIGINT)
    output, _ = shell.communicate(timeout=300)
    lines = output.rstrip("\n").split("\n")
    return [*lines, f"[exit status {shell.returncode}]"] if shell.returncode else lines


if __name__ == "__main__":
    raise SystemExit(main())
