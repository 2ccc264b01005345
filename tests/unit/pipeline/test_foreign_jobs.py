"""Strays are rejected; a queue of which nothing is ours is not emptied."""

from __future__ import annotations

from daemon.pipeline.foreign_jobs import JOBS_BEFORE_DOUBT, ForeignJobs
from daemon.training_job.identity import JobArn
from tests.support.flow_scene import arn_of

NUMBERS = range(JOBS_BEFORE_DOUBT)


def abroad(number: int, account: str = "999999999999", region: str = "eu-west-1") -> JobArn:
    return JobArn.parse(arn_of(f"abroad-{number}", account=account, region=region))


def test_so_many_foreign_jobs_and_none_of_ours_are_doubtful() -> None:
    seen = ForeignJobs()
    assert [seen.saw_foreign(abroad(number)) for number in NUMBERS] == [False, False, True]
    assert seen.saw_foreign(abroad(99))


def test_one_foreign_job_many_times_is_a_stray() -> None:
    seen = ForeignJobs()
    assert not any(seen.saw_foreign(abroad(1)) for _ in range(99))


def test_the_same_job_in_another_case_is_the_same_job() -> None:
    seen = ForeignJobs()
    for name in ("abroad", "Abroad", "ABROAD"):
        assert not seen.saw_foreign(JobArn.parse(arn_of(name, account="999999999999")))


def test_one_job_of_ours_ends_the_doubt_before_and_after() -> None:
    before, after = ForeignJobs(), ForeignJobs()
    before.saw_ours()
    assert not any(before.saw_foreign(abroad(number)) for number in range(9))
    assert any(after.saw_foreign(abroad(number)) for number in NUMBERS)
    after.saw_ours()
    assert not after.saw_foreign(abroad(0))


def test_the_places_of_the_first_foreign_jobs_are_told_once_each() -> None:
    seen = ForeignJobs()
    for number in NUMBERS:
        seen.saw_foreign(abroad(number, region="us-east-1" if number else "eu-west-1"))
    seen.saw_foreign(abroad(99, account="888888888888"))
    assert seen.places == "999999999999 in eu-west-1, 999999999999 in us-east-1"
