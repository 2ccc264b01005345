"""Numbers, times and states as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from daemon.observability.page.markup import Html, element
from daemon.reasons import Edge

if TYPE_CHECKING:
    from daemon.targets.place import TargetPlace

_EDGE_NAMES = {Edge.SAGEMAKER: "SageMaker", Edge.QUEUE: "Queue", Edge.CHECKPOINT: "Checkpoint"}

_WITH_TENTHS = 10
"""Seconds. Longer durations are shown without decimals."""
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def edge_name(edge: Edge, target: TargetPlace) -> str:
    """An edge as people call it; the target by the name of its system."""
    return _EDGE_NAMES.get(edge, target.system)


def duration(seconds: float) -> str:
    """A duration in one or two units: ``3 min``, ``2 h 5 min``, ``0.4 s``."""
    if seconds < _WITH_TENTHS:
        return f"{max(seconds, 0):.1f} s".replace(".0 s", " s")
    left = int(seconds)
    words: list[str] = []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {name}")
        elif words:
            break
        if len(words) == 2:  # noqa: PLR2004 - as the docstring says
            break
    return " ".join(words if words[0].endswith(("h", "d")) else words[:1])


def ago(then: float, now: float) -> str:
    """``3 min ago``; ``just now`` also for what a clock dates into the future."""
    return "just now" if now - then < 1 else f"{duration(now - then)} ago"


def iso(epoch_seconds: float) -> str:
    """ISO 8601 in UTC, to the second; the nearest time that has one."""
    return _iso(int(min(max(epoch_seconds, 0.0), 253_402_300_799.0)))


@lru_cache(maxsize=1024)
def _iso(epoch_seconds: int) -> str:
    return f"{datetime.fromtimestamp(epoch_seconds, UTC).replace(tzinfo=None).isoformat()}Z"


def clock_time(epoch_seconds: float, now: float) -> str:
    """The time of day in UTC, with the date if that is not today's."""
    then = iso(epoch_seconds)
    words = f"{then[11:19]} UTC"
    return words if then[:10] == iso(now)[:10] else f"{then[:10]} {words}"


def when(then: float, now: float) -> Html:
    """An age that tells its time to those who point at it, and to programs."""
    return element("time", ago(then, now), datetime=iso(then), title=clock_time(then, now))


def number(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def spoken(word: str) -> str:
    """A word of the contract as people read it: ``tags_incomplete`` is ``tags incomplete``."""
    return word.replace("_", " ")
