"""Statistics of the rounds, and the account of jobs against runs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Spread:
    """A figure over several rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Raises ValueError for no figures."""
        if not figures:
            raise ValueError("no round has a figure")
        return cls(statistics.median(figures), min(figures), max(figures), len(figures))

    def text(self, digits: int = 1) -> str:
        """As the tables show it: the median, then least and most."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.most:.{digits}f})"


def percentile(figures: Sequence[float], percent: float) -> float:
    """The smallest figure that so many percent of all do not exceed (nearest rank).

    Raises:
        ValueError: there are none.
    """
    if not figures:
        raise ValueError("no figures")
    rank = math.ceil(len(figures) * percent / 100)
    return sorted(figures)[max(rank, 1) - 1]


@dataclass(frozen=True)
class Account:
    """What became of the jobs of a round.

    Attributes:
        jobs: unique jobs that ought to have a run.
        runs: in the target, of whatever job.
        lost: jobs without a run.
        doubled: runs beyond the first of their job.
        strange: runs that belong to none of the jobs, as empty ones.
    """

    jobs: int
    runs: int
    lost: int
    doubled: int
    strange: int

    @property
    def exact(self) -> bool:
        """One run for each job, and nothing else."""
        return self.lost == self.doubled == self.strange == 0

    @classmethod
    def of(cls, jobs: Iterable[str], runs: Iterable[str]) -> Account:
        """Compares by name.

        Args:
            jobs: names of the jobs.
            runs: for each run, the name of its job.
        """
        wanted, found = set(jobs), Counter(runs)
        return cls(
            jobs=len(wanted),
            runs=found.total(),
            lost=len(wanted - set(found)),
            doubled=sum(count - 1 for name, count in found.items() if name in wanted),
            strange=sum(count for name, count in found.items() if name not in wanted),
        )

    def __add__(self, other: Account) -> Account:
        return Account(
            self.jobs + other.jobs,
            self.runs + other.runs,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.strange + other.strange,
        )
