"""The example of docs/write-a-target.md in real processes that are killed while they write."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def report(what: str, folder: Path) -> dict[str, Any]:
    """What `tests.support.jsonl_killed` prints when every job is in its file exactly once."""
    command = (sys.executable, "-m", "tests.support.jsonl_killed", what, str(folder))
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow  # some 300 processes
def test_killed_before_every_line_of_its_code(tmp_path: Path) -> None:
    found = report("lines", tmp_path)
    assert found["kills"] > 30
    assert 0 < found["written_before_the_kill"] < found["kills"]


def test_ended_in_the_middle_of_a_line_of_the_file(tmp_path: Path) -> None:
    assert report("bytes", tmp_path) == {"ended": 6, "torn": 6}


def test_four_processes_write_the_same_jobs_at_once(tmp_path: Path) -> None:
    found = report("race", tmp_path)
    assert found["created"] == 25
    assert found["processes"] > 1, "they did not race"
