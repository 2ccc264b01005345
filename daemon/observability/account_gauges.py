"""The gauges of SageMaker's breakers, where there is one for each account and region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.reasons import Edge

if TYPE_CHECKING:
    from daemon.observability.metrics import Metrics

OWN = "own"
"""The label values of the daemon's own account and region."""


class AccountBreakerGauges:
    """Sets the gauge of each, and that of the edge, which is open when all of them are.

    Args:
        metrics: of this run.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[str, bool] = {}

    def set(self, where: str, is_open: bool) -> None:  # noqa: FBT001 - as `Breaker` calls it
        """A breaker has opened or closed.

        Args:
            where: ``<account>/<region>``; "": the daemon's own.
            is_open: whether it is open now.
        """
        self._open[where] = is_open
        account, _, region = where.partition("/")
        self._metrics.account_breaker_open.labels(account or OWN, region or OWN).set(is_open)
        self._metrics.breaker_open.labels(Edge.SAGEMAKER).set(all(self._open.values()))
