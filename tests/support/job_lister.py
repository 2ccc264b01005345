"""ListTrainingJobs as SageMaker answers it, for the stub on a socket and for simulations: pages,
filters, order, and 2 requests a second.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REQUESTS_A_SECOND = 2.0
"""Service quota of an account in a region, not adjustable."""
MOST_RESULTS = 100
DEFAULT_RESULTS = 10

_ALWAYS = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
_SOMETIMES = ("TrainingEndTime", "LastModifiedTime", "SecondaryStatus")
_ORDERS = ("Ascending", "Descending")


class ListRefused(Exception):
    """An error answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class JobLister:
    """The list of training jobs.

    Args:
        now: the clock of the rate limit, in seconds.

    Attributes:
        rate: requests a second; as many may come at once after a pause. None: no limit.
        requests: how many came, those that were throttled included.
        throttled: how many were.
    """

    def __init__(self, now: Callable[[], float], *, rate: float | None = REQUESTS_A_SECOND) -> None:
        self._now = now
        self.rate = rate
        self.requests = 0
        self.throttled = 0
        self._allowance = rate or 0.0
        self._counted_at = now()
        self._jobs: dict[str, dict[str, Any]] = {}
        self._order: list[tuple[float, str]] = []

    def put(self, description: Mapping[str, Any]) -> None:
        """Adds a job, or replaces the one of the same name.

        Args:
            description: as DescribeTrainingJob answers it on the wire: times are epoch seconds.
        """
        self.remove(description["TrainingJobName"])
        summary: dict[str, Any] = {member: description.get(member) for member in _ALWAYS}
        summary |= {member: description[member] for member in _SOMETIMES if member in description}
        self._jobs[summary["TrainingJobName"]] = summary
        bisect.insort(self._order, _place(summary))

    def remove(self, name: str) -> None:
        """Deletes a job, if it is there."""
        summary = self._jobs.pop(name, None)
        if summary is not None:
            self._order.remove(_place(summary))

    def page(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer on the wire.

        `StatusEquals` filters after the page is cut, so that pages may be short or empty although
        more follow.

        Args:
            request: its parameters on the wire.

        Raises:
            ListRefused: throttled, or a wrong parameter.
        """
        self._count()
        limit = request.get("MaxResults", DEFAULT_RESULTS)
        if not 1 <= limit <= MOST_RESULTS:
            raise ListRefused("ValidationException", f"Value '{limit}' at 'maxResults' is invalid")
        order = request.get("SortOrder", "Ascending")
        if request.get("SortBy", "CreationTime") != "CreationTime" or order not in _ORDERS:
            raise ListRefused("ValidationException", "this stub sorts by creation time only")
        places = self._order if order == "Ascending" else self._order[::-1]
        after = request.get("CreationTimeAfter", float("-inf"))
        before = request.get("CreationTimeBefore", float("inf"))
        token = _place_of(request.get("NextToken"))
        wanted = [
            place
            for place in places
            if after <= place[0] <= before
            and (token is None or (place > token if order == "Ascending" else place < token))
        ]
        page = wanted[:limit]
        jobs = [self._jobs[name] for _, name in page]
        status = request.get("StatusEquals")
        answer: dict[str, Any] = {
            "TrainingJobSummaries": [
                job for job in jobs if status in {None, job["TrainingJobStatus"]}
            ]
        }
        if len(page) < len(wanted):
            answer["NextToken"] = f"{page[-1][0]!r}/{page[-1][1]}"
        return answer

    def _count(self) -> None:
        self.requests += 1
        if self.rate is None:
            return
        now = self._now()
        earned = (now - self._counted_at) * self.rate
        self._allowance = min(self.rate, self._allowance + earned)
        self._counted_at = now
        if self._allowance < 1:
            self.throttled += 1
            raise ListRefused("ThrottlingException", "Rate exceeded")
        self._allowance -= 1


def _place(summary: Mapping[str, Any]) -> tuple[float, str]:
    return float(summary.get("CreationTime") or 0.0), summary["TrainingJobName"]


def _place_of(token: str | None) -> tuple[float, str] | None:
    """The place of the last job of the previous page."""
    if token is None:
        return None
    created, _, name = token.partition("/")
    try:
        return float(created), name
    except ValueError as error:
        raise ListRefused("ValidationException", "Invalid pagination token.") from error
