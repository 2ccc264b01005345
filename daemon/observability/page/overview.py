"""The page on ``/``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.observability.page.chart import last_hour
from daemon.observability.page.fleet_table import fleet_table
from daemon.observability.page.frame import page
from daemon.observability.page.job_table import job_list
from daemon.observability.page.state_panel import state_panel, tiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.observability.page.job_table import JobList
    from daemon.observability.page.markup import Html
    from daemon.observability.status import Status


def overview(status: Status, jobs: JobList, *, refresh: int | None = None) -> Iterator[Html]:
    """The whole page, piece by piece.

    Args:
        status: of the daemon.
        jobs: the list below it.
        refresh: as `daemon.observability.page.frame.page`.
    """
    return page(
        f"{status.target.system} sync",
        status,
        _sections(status, jobs),
        refresh=refresh,
    )


def _sections(status: Status, jobs: JobList) -> Iterator[Html]:
    yield state_panel(status)
    yield tiles(status)
    yield fleet_table(status)
    yield from last_hour(status)
    yield from job_list(jobs, status.now)
