"""The machine: its cores, and what processes use of it (Linux)."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Which core does what; both None where there is only one, or no way to choose.

    Attributes:
        participant: what is measured, alone.
        rest: the broker, the stand-ins, the real servers and this harness.
    """

    participant: int | None
    rest: int | None

    @classmethod
    def here(cls) -> Cores:
        """The first two cores that this process may use."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1]) if len(allowed) > 1 else cls(None, None)

    def take_rest(self) -> None:
        """Puts this process, and what it starts, on the core of the rest."""
        if self.rest is not None:
            os.sched_setaffinity(0, {self.rest})

    def give_participant(self, pid: int) -> None:
        """Puts a process that has just been started on the participant's core."""
        if self.participant is not None:
            os.sched_setaffinity(pid, {self.participant})

    def __str__(self) -> str:
        if self.participant is None:
            return "not pinned: this machine has one core, or no way to choose one"
        return (
            f"participant on core {self.participant}; broker, stand-ins and harness on core "
            f"{self.rest}"
        )


def family(pid: int) -> list[int]:
    """A process and all below it that are alive."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            parents[int(entry.name)] = int(stat[1])
    found = [pid] if pid in parents else []
    for each in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == each]
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes so far, without children that have ended."""
    return sum((int(stat[11]) + int(stat[12])) / _TICKS for pid in pids if (stat := _stat(pid)))


def rss_mb(pids: list[int], field: str = "VmRSS") -> float:
    """Resident memory in MB, now (VmRSS) or at its most (VmHWM)."""
    return sum(_memory(pid, field) for pid in pids)


def _memory(pid: int, field: str) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0  # it has ended
    return next(
        (int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(field)), 0.0
    )


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the state on; None: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def description() -> dict[str, object]:
    """What runs here, for the results."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = next(
        int(line.split()[1]) / 1024**2
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }
