"""One history as a unit of work for another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation import crash_points, history

if TYPE_CHECKING:
    from tests.simulation.history import Result

TARGETS = ("modeldb-v2", "modeldb-v1", "mlflow")

Work = tuple[str, ...]
"""A kind and its arguments, as texts."""
Done = tuple[Work, list[str], float, int, dict[str, int]]
"""That, what was wrong, virtual seconds, points, and what it suffered."""


def do(work: Work) -> Done:
    result = result_of_work(work)
    return work, result.wrongs, result.seconds, result.steps, result.suffered


def result_of_work(work: Work) -> Result:
    """Runs a history."""
    match work:
        case ("history", target, seed, kind):
            return history.run(int(seed), target, kind)
        case ("crash", target, trouble, end, step, checkpoint):
            return crash_points.run_to(target, trouble, int(step), end, checkpoint)
    raise AssertionError(work)


def replay_command(work: Work) -> str:
    """The command that runs it again with its log."""
    match work:
        case ("history", target, seed, kind):
            given = f" --kind {kind!r}" if kind else ""
            return f"python -m tests.simulation replay {target} {seed}{given}"
        case ("crash", target, trouble, end, step, checkpoint):
            return (
                f"python -m tests.simulation replay {target} --checkpoint {checkpoint} "
                f"--trouble {trouble!r} --end {end} --step {step}"
            )
    raise AssertionError(work)
