"""Whether a queue and its dead-letter queue are set up so that no job is lost. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.intake.queue_monitor import LEAST_RECEIVES
from daemon.operations.finding import Finding, Verdict
from daemon.operations.when import age_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.aws.ports import QueueState
    from daemon.aws.queue_setup import QueueSetup

QUEUE, DEAD_LETTERS, CLOCK = "queue", "dead-letter queue", "clock"

NO_REDRIVE_POLICY = (
    "none: give the queue a redrive policy; without one, rejected messages are kept in the "
    "checkpoint, and a job that never works is tried until its message expires"
)
LEAST_STEADY_VISIBILITY_SECONDS = 30
"""A renewal that SQS answers late still comes in time: the first is sent after half of it."""
LEAST_RETENTION_SECONDS = 4 * 86_400
"""SQS's default: an outage over a long weekend."""
AWS_OWN_KEY = "alias/aws/sqs"
SKEW_WARNING_SECONDS, SKEW_FAILURE_SECONDS = 30.0, 300.0
"""AWS refuses signatures that are more than five minutes off (Signature Version 4)."""


def visibility_findings(
    own_seconds: int, configured_seconds: int | None, write_seconds: float
) -> Iterator[Finding]:
    """Judges the visibility timeout of received messages.

    Args:
        own_seconds: the queue's.
        configured_seconds: ``queue.visibility_seconds``.
        write_seconds: how long a write may be carried out: the target's timeout and settle time.
    """
    seconds = own_seconds if configured_seconds is None else configured_seconds
    remedy = "set VisibilityTimeout of the queue, or queue.visibility_seconds, to 120"
    if seconds < LEAST_STEADY_VISIBILITY_SECONDS:
        text = (
            f"the visibility timeout is {seconds} s: one renewal that SQS answers late lets "
            f"messages become visible while they are worked on; {remedy}"
        )
    elif seconds < write_seconds:
        text = (
            f"the visibility timeout is {seconds} s, shorter than target.timeout_seconds + "
            f"target.settle_seconds ({write_seconds:g} s): after a kill, messages are received "
            f"again, and use up a receive, before their last write is known to be over; {remedy}"
        )
    else:
        text = f"the visibility timeout is {seconds} s"
        yield Finding(QUEUE, Verdict.OK, text, "VisibilityTimeout")
        return
    yield Finding(QUEUE, Verdict.WARNING, text, "VisibilityTimeout")


def receives_findings(max_receive_count: int | None) -> Iterator[Finding]:
    """Judges ``maxReceiveCount``; nothing without a redrive policy."""
    if max_receive_count is None:
        return
    about, text = "maxReceiveCount", f"maxReceiveCount is {max_receive_count}"
    if max_receive_count >= LEAST_RECEIVES:
        yield Finding(QUEUE, Verdict.OK, text, about)
        return
    yield Finding(
        QUEUE,
        Verdict.WARNING,
        f"{text}: every receive counts, also those of a restart or of the AWS console, so a brief "
        f"failure makes dead letters of good jobs; set it to {LEAST_RECEIVES} or more (10 is "
        "usual)",
        about,
    )


def retention_findings(queue: QueueSetup, dead_letters: QueueSetup | None) -> Iterator[Finding]:
    """Judges how long messages are kept."""
    about, kept = "MessageRetentionPeriod", queue.retention_seconds
    if kept is not None:
        text = f"messages are kept for {age_text(kept)}"
        if kept < LEAST_RETENTION_SECONDS:
            yield Finding(
                QUEUE,
                Verdict.WARNING,
                f"{text}: an outage of the target, or a stop of the daemon, that lasts longer "
                "loses events without a trace; set MessageRetentionPeriod to 604800 (7 days) or "
                "more",
                about,
            )
        else:
            yield Finding(
                QUEUE, Verdict.OK, f"{text}, which is the longest outage that loses none", about
            )
    letters = None if dead_letters is None else dead_letters.retention_seconds
    if letters is None:
        return
    text = f"messages are kept for {age_text(letters)}"
    if kept is not None and letters <= kept:
        yield Finding(
            DEAD_LETTERS,
            Verdict.WARNING,
            f"{text}, not longer than in the queue: a message keeps its age when SQS moves it, so "
            "it may vanish before anybody has looked; set MessageRetentionPeriod to 1209600 (14 "
            "days)",
            about,
        )
        return
    yield Finding(DEAD_LETTERS, Verdict.OK, text, about)


def redrive_allow_findings(state: QueueState, dead_letters: QueueSetup) -> Iterator[Finding]:
    """Judges the dead-letter queue's redrive allow policy; nothing if there is none."""
    permission = dead_letters.redrive_permission
    if permission is None or permission == "allowAll" or not state.arn:
        return
    if permission == "byQueue" and state.arn in dead_letters.redrive_sources:
        return
    yield Finding(
        DEAD_LETTERS,
        Verdict.FAILED,
        f"its redrive allow policy ({permission}) does not name {state.arn}: SQS does not move "
        "messages here; add the queue to sourceQueueArns",
        "RedriveAllowPolicy",
    )


def encryption_findings(subject: str, setup: QueueSetup) -> Iterator[Finding]:
    """What SSE-KMS asks of credentials and of EventBridge; nothing without it."""
    if setup.kms_key is None:
        return
    about = "KmsMasterKeyId"
    if setup.kms_key == AWS_OWN_KEY and subject == QUEUE:
        yield Finding(
            subject,
            Verdict.WARNING,
            f"it is encrypted with {AWS_OWN_KEY}, with which EventBridge cannot send; use a key of "
            "your own whose policy allows kms:GenerateDataKey and kms:Decrypt to "
            "events.amazonaws.com, or SSE-SQS",
            about,
        )
        return
    yield Finding(
        subject,
        Verdict.NOTE,
        f"it is encrypted with {setup.kms_key}: reading needs kms:Decrypt, sending also "
        "kms:GenerateDataKey",
        about,
    )


def clock_findings(of_whom: str, ahead_seconds: float | None) -> Iterator[Finding]:
    """Compares a server's clock with this machine's.

    Args:
        of_whom: the server, in words.
        ahead_seconds: of its clock; None: it does not tell the time.
    """
    if ahead_seconds is None:
        return
    off = abs(ahead_seconds)
    direction = "behind" if ahead_seconds > 0 else "ahead of"
    text = f"this machine's clock is {age_text(off)} {direction} that of {of_whom}"
    if off < SKEW_WARNING_SECONDS:
        verdict, text = Verdict.OK, f"this machine and {of_whom} agree on the time"
    elif off < SKEW_FAILURE_SECONDS:
        verdict, text = Verdict.WARNING, f"{text}: synchronise it (NTP)"
    else:
        verdict = Verdict.FAILED
        text = f"{text}: synchronise it (NTP); AWS refuses signatures that are 5 minutes off"
    yield Finding(CLOCK, verdict, text, "Date")
