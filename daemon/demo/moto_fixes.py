"""Fixes of moto 5.2.5, applied in the running process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sqs.models import Queue


def make_deletes_atomic() -> None:
    """Makes DeleteMessage take the queue's lock, as SendMessage does.

    moto's server is threaded, and a delete replaces the queue's list with a copy: without the lock,
    one of two concurrent deletes is undone, and a message sent meanwhile is lost.
    """
    delete = Queue.delete_message
    if getattr(delete, "is_atomic", False):
        return

    def delete_message(self: Queue, receipt_handle: str) -> None:
        with self._messages_lock:  # the lock that it takes when it sends
            delete(self, receipt_handle)

    delete_message.is_atomic = True  # type: ignore[attr-defined] # a mark on our own function
    Queue.delete_message = delete_message  # type: ignore[method-assign] # a repair


def make_jobs_listable() -> None:
    """Makes ListTrainingJobs compare times, of which it fails, and sort; and makes ListTags of a
    job that does not exist an answer of SageMaker's rather than an internal error.
    """
    backend: Any = SageMakerModelBackend
    list_jobs, list_tags = backend.list_training_jobs, backend.list_tags
    if getattr(list_jobs, "is_fixed", False):
        return

    def list_training_jobs(
        self: SageMakerModelBackend,
        *,
        creation_time_after: datetime | None,
        creation_time_before: datetime | None,
        **others: Any,  # noqa: ANN401 - moto's own arguments
    ) -> dict[str, Any]:
        # all on one page: a demo has a few dozen jobs
        everything = {**others, "next_token": None, "max_results": None}
        answer = list_jobs(self, creation_time_after=None, creation_time_before=None, **everything)
        found = [
            job
            for job in answer["TrainingJobSummaries"]
            if _earlier(creation_time_after, job["CreationTime"])
            and _earlier(job["CreationTime"], creation_time_before)
        ]
        found.sort(key=lambda job: job["CreationTime"])
        return {"TrainingJobSummaries": found, "NextToken": None}

    def list_tags_or_say_why(self: SageMakerModelBackend, arn: str, **others: Any) -> Any:  # noqa: ANN401 - the same
        if arn.rpartition("/")[2] not in self.training_jobs and ":training-job/" in arn:
            raise JsonRESTError("ValidationException", "Resource does not exist.")
        return list_tags(self, arn, **others)

    list_training_jobs.is_fixed = True  # type: ignore[attr-defined] # a mark on our own function
    backend.list_training_jobs = list_training_jobs
    backend.list_tags = list_tags_or_say_why


def _earlier(first: datetime | None, second: datetime | None) -> bool:
    """Whether two times are in order, or one is not given. moto mixes times with and without a time
    zone.
    """
    if first is None or second is None:
        return True
    return first.replace(tzinfo=first.tzinfo or UTC) <= second.replace(tzinfo=second.tzinfo or UTC)
