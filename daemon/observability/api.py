"""The JSON form of the status page. Names of members are part of the contract;
docs/api.schema.json describes them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.advice import advice
from daemon.checkpoint.owners import host_of
from daemon.observability.page.frame import shown_state
from daemon.observability.page.job_table import aws_links, project_of, run_link
from daemon.observability.page.words import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daemon.checkpoint.ports import JobRecord
    from daemon.checkpoint.reading import FoundJobs, JobHistory
    from daemon.observability.activity import Minute
    from daemon.observability.status import EdgeStatus, Status
    from daemon.operations.fleet import Replica


def status_answer(status: Status) -> Mapping[str, Any]:
    """The answer of ``/api/status``."""
    queue, reconcile = status.queue, status.reconcile
    return {
        "state": shown_state(status),
        "since": iso(status.since),
        "now": iso(status.now),
        "started_at": iso(status.started_at),
        "version": status.version,
        "target": {"kind": status.target.kind, "place": status.target.place},
        "edges": [_edge(each) for each in status.edges],
        "standing_by": status.standing_by or None,
        "dead_letter_fault": status.dead_letter_fault or None,
        "hanging": list(status.hanging),
        "messages_in_flight": status.held_here,
        "oldest_message_seconds": status.oldest_message_seconds,
        "queue": None
        if queue is None
        else {
            "visible": queue.visible,
            "in_flight": queue.in_flight,
            "delayed": queue.delayed,
            "dead_letters": queue.dead_letters,
            "asked_at": iso(queue.asked_at),
        },
        "replicas": [_replica(each, here=not index) for index, each in enumerate(status.replicas)],
        "jobs": dict(status.rows),
        "reconcile": None
        if reconcile is None
        else {
            "ended_at": None if reconcile.ended_at is None else iso(reconcile.ended_at),
            "enqueued": reconcile.enqueued,
            "fault": reconcile.fault or None,
        },
        "last_hour": {
            "counted_since": iso(status.counted_since),
            "minutes": [_minute(each) for each in status.minutes],
        },
    }


def _replica(replica: Replica, *, here: bool) -> Mapping[str, Any]:
    return {
        "name": replica.owner,
        "host": host_of(replica.owner) or None,
        "this": here,
        "version": replica.version,
        "started_at": iso(replica.started_at),
        "state": replica.state,
        "why": replica.why or None,
        "messages_in_flight": replica.in_flight,
        "synced_last_hour": replica.synced_last_hour,
        "seen_at": iso(replica.seen_at),
    }


def _edge(edge: EdgeStatus) -> Mapping[str, Any]:
    known = advice(edge.reason)
    return {
        "edge": edge.edge,
        "account": edge.where.partition("/")[0] or None,
        "region": edge.where.partition("/")[2] or None,
        "works": edge.works,
        "since": iso(edge.since),
        "reason": edge.reason or None,
        "detail": edge.detail or None,
        "what_to_do": None if known is None else known.do,
    }


def _minute(minute: Minute) -> Mapping[str, Any]:
    return {
        "at": iso(minute.at),
        "outcomes": dict(minute.outcomes),
        "median_seconds": _rounded(minute.median_seconds),
        "slow_seconds": _rounded(minute.slow_seconds),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def jobs_answer(found: FoundJobs, following: str | None) -> Iterator[str]:
    """The answer of ``/api/jobs``, as JSON text, piece by piece.

    Args:
        found: the jobs.
        following: address of the next page; None: this is the last.
    """
    back_to = found.searched_back_to
    rest = {"next": following, "searched_back_to": None if back_to is None else iso(back_to)}
    yield '{"jobs": ['
    for index, each in enumerate(found.jobs):
        yield f"{', ' if index else ''}{json.dumps(_job(each))}"
    yield f"], {json.dumps(rest)[1:]}"


def job_answer(history: JobHistory) -> Mapping[str, Any]:
    """The answer of ``/api/jobs/{arn}``."""
    working_on = history.working_on
    return {
        "records": [_job(each) for each in history.records],
        "story": [
            {
                "at": iso(each.at),
                "what": each.what,
                "detail": each.detail or None,
                "message_id": each.message_id or None,
                "owner": each.owner or None,
            }
            for each in history.story
        ],
        "working_on": None
        if working_on is None
        else {"owner": working_on.owner, "lease_until": iso(working_on.lease_until)},
    }


def _job(record: JobRecord) -> Mapping[str, Any]:
    known = advice(record.reason)
    in_aws, logs = aws_links(record)
    return {
        "arn": record.job_arn,
        "name": record.job_name,
        "created_at": record.creation_time or None,
        "outcome": record.state,
        "reason": record.reason or None,
        "detail": record.detail or None,
        "what_to_do": None if known is None else known.do,
        "project": project_of(record) or None,
        "attempts": record.attempts,
        "unanswered_writes": record.unanswered_writes,
        "target": {"kind": record.target, "place": record.place},
        "target_ids": dict(record.target_ids),
        "message_id": record.message_id or None,
        "first_seen_at": iso(record.first_seen_at),
        "updated_at": iso(record.updated_at),
        "links": {"run": run_link(record), "job": in_aws, "logs": logs},
    }


def error_answer(words: str) -> Mapping[str, Any]:
    """The answer to a request that cannot be answered."""
    return {"error": words}
