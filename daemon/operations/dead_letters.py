"""Dead letters as people see them: what each is about, their groups, and which are chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from daemon.aws.dead_letter import DETAIL, MAX_MESSAGE_BYTES, REASON, redacted_body
from daemon.aws.ports import ORIGIN, Origin, OutgoingMessage
from daemon.operations.verdict import Advice, Verdict, verdict
from daemon.reasons import Reason
from daemon.redaction.redactor import Redactor
from daemon.text import one_line, shortened
from daemon.training_job.event import OtherEvent, TrainingJobEvent, parse_event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from daemon.aws.dead_letter_ports import ReceivedLetter
    from daemon.checkpoint.ports import RejectedMessage
    from daemon.operations.verdict import JobNow
    from daemon.pipeline.flow import FlowRules

RECEIVED_TOO_OFTEN = "received_too_often"
"""In place of a reason: the queue's redrive policy has moved the message."""
NOT_DELIVERED = "not_delivered"
"""In place of a reason: EventBridge could not deliver the event to its target."""
NO_REASON = "no_reason"
"""In place of a reason: somebody else has sent the message, or it was too large for attributes."""

MAX_ATTRIBUTES = 10
"""Of a message (SQS)."""
_DETAIL_CHARACTERS = 1_000
_DELIVERY_ERRORS = ("ERROR_CODE", "ERROR_MESSAGE")
"""Attributes that EventBridge gives what it could not deliver to a target."""
_REASONS = frozenset(reason.value for reason in Reason)
_REDACTOR = Redactor()


class Place(StrEnum):
    """Where a letter is."""

    QUEUE = "queue"
    CHECKPOINT = "checkpoint"  # its body was kept, because no dead-letter queue took it


class About(StrEnum):
    """What a letter is about."""

    JOB = "job"  # a training job, of this queue
    UNREADABLE = "unreadable"  # rejected by the daemon, because it cannot be understood
    OTHER = "other"  # of another origin: another queue, another service, another event


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, without its body."""

    message_id: str
    place: Place
    about: About
    reason: str
    """A `Reason`, or one of the words above."""
    detail: str
    """Why in words, one line without secrets."""
    event: TrainingJobEvent | None
    """None: the body names no job."""
    sent_at: float | None
    """Epoch seconds: when it was rejected, or first sent if a redrive policy has moved it."""
    first_received_at: float | None = None
    receives: int = 0
    size: int = 0
    """Of the body, in bytes."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The string attributes besides reason and detail, without secrets."""
    note: str = ""
    """Why it cannot be copied; "" if it can."""

    @property
    def job(self) -> str:
        """The name of its job; "" if it names none."""
        return "" if self.event is None else self.event.name

    @property
    def job_arn(self) -> str:
        """As given; "" if it names none."""
        return "" if self.event is None or self.event.arn is None else self.event.arn.text


@dataclass(frozen=True, slots=True)
class Group:
    """The letters of one reason, in the order of their jobs."""

    reason: str
    letters: Sequence[Letter]

    @property
    def jobs(self) -> int:
        return len({letter.job for letter in self.letters} - {""})

    @property
    def first(self) -> float | None:
        return min(_times(self.letters), default=None)

    @property
    def last(self) -> float | None:
        return max(_times(self.letters), default=None)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters an operator means."""

    ids: Collection[str] = ()
    """These and no others, whatever they are about."""
    reason: str = ""
    job: str = ""
    """Name or ARN, in any case."""

    def takes(self, letter: Letter) -> bool:
        if self.ids:
            return letter.message_id in self.ids
        if self.reason and letter.reason != self.reason:
            return False
        wanted = self.job.lower()
        return not wanted or wanted in {letter.job.lower(), letter.job_arn.lower()}

    def takes_for_redrive(self, letter: Letter) -> bool:
        """The same, but messages of another origin only by their ids."""
        return self.takes(letter) and (bool(self.ids) or letter.about is not About.OTHER)


def letter_in_queue(received: ReceivedLetter, queue_arn: str) -> Letter:
    """A letter in the dead-letter queue.

    Args:
        received: as it was received.
        queue_arn: of the queue whose dead letters are looked at; a dead-letter queue may have
            several.
    """
    parsed = parse_event(received.body)
    reason = received.attributes.get(REASON, "")
    of_another_queue = received.source_arn not in {"", queue_arn}
    if of_another_queue:
        about = About.OTHER
    elif isinstance(parsed, TrainingJobEvent):
        about = About.JOB
    else:
        about = About.UNREADABLE if reason else About.OTHER
    detail = received.attributes.get(DETAIL) or _detail(received, of_another_queue)
    if not detail and not isinstance(parsed, TrainingJobEvent):
        detail = parsed.what if isinstance(parsed, OtherEvent) else parsed.detail
    return Letter(
        message_id=received.message_id,
        place=Place.QUEUE,
        about=about,
        reason=_safe(reason) or _in_place_of_reason(received),
        detail=_safe(detail),
        event=parsed if isinstance(parsed, TrainingJobEvent) else None,
        sent_at=received.sent_at,
        first_received_at=received.first_received_at,
        receives=received.receive_count,
        size=len(received.body.encode(errors="replace")),
        attributes={
            _safe(name): _safe(value)
            for name, value in received.attributes.items()
            if name not in {REASON, DETAIL}
        },
        note=_why_not_copied(received),
    )


def kept_letter(message: RejectedMessage) -> Letter:
    """A letter whose body is kept in the checkpoint."""
    body = message.body or ""
    parsed = parse_event(body)
    return Letter(
        message_id=message.message_id,
        place=Place.CHECKPOINT,
        about=About.JOB if isinstance(parsed, TrainingJobEvent) else About.UNREADABLE,
        reason=message.reason,
        detail=_safe(message.detail),
        event=parsed if isinstance(parsed, TrainingJobEvent) else None,
        sent_at=message.rejected_at,
        size=len(body.encode(errors="replace")),
        note="" if OutgoingMessage(body).size <= MAX_MESSAGE_BYTES else "its body is too large",
    )


def groups_of(letters: Iterable[Letter]) -> list[Group]:
    """The largest group first."""
    by_reason: dict[str, list[Letter]] = {}
    for letter in letters:
        by_reason.setdefault(letter.reason, []).append(letter)
    groups = [
        Group(reason, sorted(found, key=lambda each: (each.job.lower(), each.sent_at or 0.0)))
        for reason, found in by_reason.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.letters), group.reason))


def copy_of(body: str, attributes: Mapping[str, str]) -> OutgoingMessage:
    """The message that goes back to the queue. It keeps its attributes: by ``reason``, the daemon
    knows that the event's tags are those it was rejected for, and takes them from ListTags.

    Args:
        body: of the letter.
        attributes: of the letter, all of them strings.
    """
    marked = OutgoingMessage(body, {**attributes, ORIGIN: Origin.REDRIVE.value})
    if len(marked.attributes) <= MAX_ATTRIBUTES and marked.size <= MAX_MESSAGE_BYTES:
        return marked
    return OutgoingMessage(body, dict(attributes))


def verdict_on(letter: Letter, now: JobNow | None, rules: FlowRules) -> Verdict:
    """What would become of a letter if it were sent back now.

    Args:
        letter: the letter.
        now: what is known of its job; None: it names none, or nobody was asked.
        rules: of the daemon that would receive it.
    """
    if letter.about is About.OTHER:
        return Verdict(
            "",
            None,
            "it is not this daemon's: only 'redrive ID' sends it to the queue",
            Advice.LOOK,
        )
    if letter.event is None:
        return Verdict(
            "rejected",
            Reason.MALFORMED_BODY,
            "the daemon still cannot read it: correct what sends it, then delete it",
            Advice.LOOK,
        )
    if now is None:
        return Verdict("", None, "SageMaker was not asked", Advice.LOOK)
    rejected_for = letter.reason if letter.reason in _REASONS else ""
    return verdict(letter.event, now, rules, rejected_for=rejected_for)


def as_json(letter: Letter, now: Verdict | None = None) -> dict[str, Any]:
    """For programs. Times in epoch seconds."""
    return {
        "message_id": letter.message_id,
        "place": letter.place.value,
        "about": letter.about.value,
        "reason": letter.reason,
        "detail": letter.detail,
        "job": letter.job,
        "job_arn": letter.job_arn,
        "sent_at": letter.sent_at,
        "first_received_at": letter.first_received_at,
        "receives": letter.receives,
        "bytes": letter.size,
        "attributes": dict(letter.attributes),
        "now": None
        if now is None
        else {
            "advice": now.advice.value,
            "outcome": now.outcome,
            "reason": "" if now.reason is None else now.reason.value,
            "text": now.text,
        },
    }


def shown_body(body: str) -> str:
    """A body for people: without hyperparameters, environment and secrets."""
    return redacted_body(body)


def _detail(received: ReceivedLetter, of_another_queue: bool) -> str:  # noqa: FBT001 - private, one caller
    if of_another_queue:
        return f"moved here by the redrive policy of {received.source_arn}"
    told = [
        f"{name}: {received.attributes[name]}"
        for name in _DELIVERY_ERRORS
        if name in received.attributes
    ]
    if told:
        return f"EventBridge could not deliver it; {', '.join(told)}"
    if received.source_arn:
        return "received more often than the redrive policy allows, without an outcome"
    return ""


def _in_place_of_reason(received: ReceivedLetter) -> str:
    if received.source_arn:
        return RECEIVED_TOO_OFTEN
    told = any(name in received.attributes for name in _DELIVERY_ERRORS)
    return NOT_DELIVERED if told else NO_REASON


def _why_not_copied(received: ReceivedLetter) -> str:
    if received.other_attributes:
        names = ", ".join(map(_safe, received.other_attributes))
        return f"its attributes {names} are no strings, and a copy would lose them"
    return ""


def _safe(text: str) -> str:
    return one_line(shortened(_REDACTOR.text(text).text, _DETAIL_CHARACTERS))


def _times(letters: Iterable[Letter]) -> list[float]:
    return [letter.sent_at for letter in letters if letter.sent_at is not None]
