"""Processes that write to the example of docs/write-a-target.md and are killed while they do.

``python -m tests.support.jsonl_killed lines FOLDER``: SIGKILL before every line of the example that
a write executes. ``… bytes FOLDER``: the system ends the process in the middle of a line of the
file. ``… race FOLDER``: several processes write the same jobs at once. Each checks that every job
is there once and every line is JSON, and prints a report.

Each process is forked, because an interpreter takes longer to start than the write takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.targets.kind import TargetContext
from docs.examples import jsonl_target
from docs.examples.jsonl_target import JSONL, JsonlSettings
from tests.support.target_jobs import MemoryJournal, job

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

RACERS, RACED_JOBS = 4, 25


def write(file: Path, name: str, *, again: bool = False) -> bool:
    """Whether a job was written now; `again`: after an attempt that was killed."""
    target = JSONL.open(JsonlSettings(kind="jsonl", file=file, settle_seconds=0), TargetContext())
    journal = MemoryJournal(unanswered_writes=int(again), look_up_first=again)
    return asyncio.run(target.sync(job(name), journal)).created


def forked(work: Callable[[], object]) -> int:
    """The signal that ended a process in which `work` ran; 0: it ended by itself, in success."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "a process failed"
        return 0
    return os.WTERMSIG(status)


def kill_before_line(number: int) -> None:
    """Kills this process before the n-th line of the example that any thread executes."""
    left = number

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != jsonl_target.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def end_after_bytes(file: Path, count: int) -> None:
    """Lets the system end this process when so many bytes more are in the file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    size = file.stat().st_size + count
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def names_in(file: Path) -> list[str]:
    """Of the complete lines; raises ValueError for one that is not JSON."""
    return [json.loads(line)["name"] for line in file.read_bytes().split(b"\n")[:-1]]


def killed_before_every_line(folder: Path) -> dict[str, int]:
    """Each time in another file that holds one job."""
    kills = written_before_the_kill = 0
    while True:
        file = folder / f"{kills}.jsonl"
        write(file, "churn-0")

        def attempt(file: Path = file, number: int = kills + 1) -> None:
            kill_before_line(number)
            write(file, "churn-1")

        if forked(attempt) == 0:
            return {"kills": kills, "written_before_the_kill": written_before_the_kill}
        kills += 1
        written_before_the_kill += len(names_in(file)) == 2
        forked(partial(write, file, "churn-1", again=True))
        assert names_in(file) == ["churn-0", "churn-1"]
        assert file.read_bytes().endswith(b"\n")


def ended_within_a_line(folder: Path) -> dict[str, int]:
    file = folder / "runs.jsonl"
    write(file, "churn-0")
    length, torn, names = file.stat().st_size, 0, ["churn-0"]
    parts = [1, 2, length // 3, length // 2, length - 2, length - 1]
    for count in parts:
        names.append(f"churn-{len(names)}")
        before = file.stat().st_size

        def attempt(name: str = names[-1], count: int = count) -> None:
            end_after_bytes(file, count)
            write(file, name)

        assert forked(attempt) == signal.SIGXFSZ
        torn += file.stat().st_size == before + count
        assert names_in(file) == names[:-1]
        forked(partial(write, file, names[-1], again=True))
        assert names_in(file) == names
        assert file.read_bytes().endswith(b"\n")
    return {"ended": len(parts), "torn": torn}


def raced(folder: Path) -> dict[str, int]:
    file = folder / "runs.jsonl"
    names = [f"churn-{number}" for number in range(RACED_JOBS)]
    children, (start, starter) = [], os.pipe()
    for number in range(RACERS):
        child = os.fork()
        if child == 0:
            os.close(starter)
            os.read(start, 1)  # returns when all processes are there
            first = number * RACED_JOBS // RACERS
            created = [write(file, name) for name in names[first:] + names[:first]]
            os._exit(sum(created))
        children.append(child)
    os.close(starter)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert sorted(names_in(file)) == sorted(names)
    return {"created": sum(map(os.WEXITSTATUS, statuses)), "processes": sum(map(bool, statuses))}


if __name__ == "__main__":
    work = {"lines": killed_before_every_line, "bytes": ended_within_a_line, "race": raced}
    print(json.dumps(work[sys.argv[1]](Path(sys.argv[2]))))
