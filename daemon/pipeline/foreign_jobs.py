"""Which jobs are ours, by account and region. Tells a wrong account in the configuration from
messages that strayed into the queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.aws.ports import TrainingJobs
    from daemon.training_job.identity import Home, JobArn

JOBS_BEFORE_DOUBT = 3
"""Distinct foreign jobs, before any of ours, that make the configuration doubtful. The ones before
are rejected, like any stray message."""


def is_foreign(home: Home, arn: JobArn | None) -> bool:
    """Whether a job is of another account or region than these."""
    return arn is not None and (
        (home.account is not None and arn.account != home.account)
        or (arn.region, arn.partition) != (home.region, home.partition)
    )


def jobs_of(jobs: TrainingJobs, arn: JobArn | None) -> TrainingJobs | None:
    """The training jobs that a job belongs to: the daemon's own, or those of another account or
    region. None: its account or region is not configured.

    Args:
        jobs: the daemon's own.
        arn: of the job; None: not known, so it is of the daemon's own account.
    """
    home = jobs.home
    if arn is None or (arn.account, arn.region) == (home.account, home.region):
        return jobs
    # before the daemon's own, whose account may not be known yet
    other = jobs.elsewhere.get(arn.where)
    if other is not None and not is_foreign(other.home, arn):
        return other
    return None if is_foreign(home, arn) else jobs


class ForeignJobs:
    """Remembers which jobs the messages since the start were about."""

    def __init__(self) -> None:
        self._any_of_ours = False
        self._foreign: dict[str, str] = {}

    def saw_ours(self) -> None:
        """Notes a message about a job of the configured account and region: foreign ones are strays
        from now on.
        """
        self._any_of_ours = True

    def saw_foreign(self, arn: JobArn) -> bool:
        """Notes a message about another job. True if rejecting it would empty the queue into the
        dead-letter queue, as far as is known: all messages are about foreign jobs, none about ours.
        """
        if self._any_of_ours:
            return False
        if len(self._foreign) < JOBS_BEFORE_DOUBT:
            self._foreign[arn.key] = f"{arn.account} in {arn.region}"
        return len(self._foreign) == JOBS_BEFORE_DOUBT

    @property
    def places(self) -> str:
        """Accounts and regions of the first foreign jobs, for people."""
        return ", ".join(sorted(set(self._foreign.values())))
