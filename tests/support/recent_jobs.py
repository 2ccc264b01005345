"""Training jobs that ended a short while ago, as ListTrainingJobs finds them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.support.daemon_process import Job


@dataclass(frozen=True)
class RecentJob(Job):
    """A job whose times follow from its creation."""

    seconds: float = 60.0

    @property
    def members(self) -> dict[str, Any]:
        ended = self.created + self.seconds
        return {
            "TrainingStartTime": self.created,
            "TrainingEndTime": ended,
            "LastModifiedTime": ended,
        }


def ended(name: str, ago: float) -> RecentJob:
    return RecentJob(name, created=time.time() - ago - 60.0)
