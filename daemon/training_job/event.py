"""Parses the body of an SQS message into a training job event, or says why it is not one.

Accepted forms (AWS: "Automating Amazon SageMaker AI with Amazon EventBridge"; EventBridge user
guide, "Transform input"):

- ``{"detail-type": …, "source": …, "detail": {…}}``: the whole event; replayed from an archive it
  also has ``replay-name``
- ``{"TrainingJobName": …, "TrainingJobArn": …, …}``: only the detail (InputPath ``$.detail``), or
  at least a name or an ARN
- ``{"trainingJobName": …}``, ``{"job_name": …, "job_arn": …}``: an InputTransformer with its own
  member names (`event_members`)
- ``{"detail-type": "Tag Change on Resource", …}`` of a training job (`tag_change`)
- one of the above inside what a service between rule and queue makes of it: SNS, a record of SQS,
  a batch of records, the request of a Lambda destination (`event_wrappers`)

Only what is known to be about something else is an `OtherEvent` (`other_events`): it is deleted. A
body that mentions a training job is understood or malformed, so that a person sees it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from daemon.redaction.beginning import safe_beginning
from daemon.text import one_line
from daemon.training_job import tag_change
from daemon.training_job.event_members import (
    SHOWN_CHARACTERS,
    JobMembers,
    Malformed,
    arns_in,
    mention_of_job,
    names_job,
    place_of,
    plain,
    shown,
    time_of,
    type_of,
)
from daemon.training_job.event_wrappers import is_item, is_relay, payloads
from daemon.training_job.other_events import known_other

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from daemon.training_job.identity import JobArn

DETAIL_TYPE = "SageMaker Training Job State Change"
SOURCE = "aws.sagemaker"

_DETAIL_LIMIT = 300
_MOST_LAYERS = 12
"""Wrappers around an event, lists and strings around JSON."""
_MOST_RECORDS = 1000
_CONFIRMATIONS = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})


@dataclass(frozen=True, slots=True)
class TrainingJobEvent:
    """A state change of a training job, or a change of its tags. What the message lacks is looked
    up in SageMaker.
    """

    name: str
    """TrainingJobName as given, else the name in the ARN."""
    arn: JobArn | None = None
    """None: the message has neither an ARN nor account and region."""
    status: str | None = None
    """TrainingJobStatus; unknown words are accepted. None: absent."""
    creation_time: datetime | None = None
    """In UTC. None: absent or unreadable."""
    tags: Mapping[str, str] | None = None
    """None: absent, or not as SageMaker writes tags; ListTags is authoritative."""
    event_time: datetime | None = None
    """The envelope's time, in UTC: when the state changed."""
    replayed: bool = False
    """From an EventBridge archive: the event is old, and the job may have been deleted."""
    whole: bool = False
    """A state change whose envelope has all that EventBridge gives. False: only a part was sent
    on, or somebody wrote the message."""
    changed_tags: frozenset[str] | None = None
    """Keys of the job's tags after they were changed. None: it is no change of tags."""


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """A valid event that is not about a training job."""

    what: str
    """One line for the log."""


@dataclass(frozen=True, slots=True)
class MalformedBody:
    """Not a known form of event, or contradicts itself."""

    detail: str
    """One line, at most 300 characters, that never quotes hyperparameters or environment."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the body a value stands."""

    what: str
    """For errors."""
    layers: int = 0
    direct: bool = True
    """Nothing but SNS is around it: EventBridge's events arrive at once, and whole."""
    around: Mapping[str, str] = field(default_factory=dict)
    """Account and region, in the form of an envelope, as said around it."""

    def inside(self, what: str, around: Mapping[str, str], *, direct: bool = False) -> _Place:
        return _Place(what, self.layers + 1, direct and self.direct, {**self.around, **around})


def parse_event(body: str) -> TrainingJobEvent | OtherEvent | MalformedBody:
    """Parses the body of an SQS message. Never raises, whatever the body is."""
    try:
        return _event(_loaded(body, "the body"), _Place("the body"))
    except Malformed as problem:
        return MalformedBody(one_line(str(problem))[:_DETAIL_LIMIT])


def mentions_training_job(body: str) -> bool:
    """Whether the words "training job" stand anywhere in a body, in any spelling, JSON or not."""
    return "trainingjob" in plain(body)


def _event(document: object, place: _Place) -> TrainingJobEvent | OtherEvent:
    if place.layers > _MOST_LAYERS:
        raise Malformed(f"an event wrapped in more than {_MOST_LAYERS} layers")
    if isinstance(document, dict):
        return _object(document, place)
    if isinstance(document, str):
        return _text(document, place)
    # a list of events is nothing that a service sends; records are, and an event's resources
    if isinstance(document, list) and (place.layers or all(map(is_item, document))):
        return _batch(document, place)
    raise Malformed(f"{place.what} is {type_of(document)}, not an object")


def _text(text: str, place: _Place) -> TrainingJobEvent | OtherEvent:
    """JSON in a string, or the ARN alone (InputPath ``$.detail.TrainingJobArn``)."""
    for _, arn in arns_in({place.what: text}).values():
        return TrainingJobEvent(arn.name, arn)
    inner = _loaded(text, place.what, unread="text, not an object")
    return _event(inner, place.inside(place.what, {}))


def _object(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent | OtherEvent:
    if isinstance(document.get("TopicArn"), str) and isinstance(document.get("Type"), str):
        return _notification(document, place)
    if "detail-type" in document:
        return _envelope(document, place)
    other = known_other(document)
    if other is not None:
        return OtherEvent(other)
    return _unwrapped(document, place)


def _notification(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent | OtherEvent:
    """SNS delivers notifications and confirmation requests, whose link is never followed."""
    if document["Type"] in _CONFIRMATIONS:
        return OtherEvent(f"SNS {shown(document['Type'])}")
    message = document.get("Message")
    if not isinstance(message, str):
        raise Malformed(f"Message of the SNS notification is {type_of(message)}, not text")
    what = "Message of the SNS notification"
    inner = place.inside(what, {}, direct=place.layers == 0)
    return _event(_loaded(message, what), inner)


def _envelope(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent | OtherEvent:
    detail_type, source, detail = (
        document["detail-type"],
        document.get("source"),
        document.get("detail"),
    )
    if not isinstance(detail_type, str) or not isinstance(source, str):
        raise Malformed(
            f"detail-type is {type_of(detail_type)} and source {type_of(source)}; both must be text"
        )
    if is_relay(source, detail_type):
        return _relayed(document, place)
    if (source, detail_type) == (tag_change.SOURCE, tag_change.DETAIL_TYPE):
        return _tag_change(document)
    if source != SOURCE:
        return OtherEvent(f"{shown(detail_type)} from {shown(source)}")
    if detail_type != DETAIL_TYPE:
        return OtherEvent(shown(detail_type))
    resources = _resources(document)
    if isinstance(detail, str) and detail.lstrip()[:1] == "{":
        detail, place = _loaded(detail, "detail"), place.inside("detail", {})
    if detail is None and resources:
        detail = {}
    if not isinstance(detail, dict):
        raise Malformed(f"detail is {type_of(detail)}, not an object")
    job = JobMembers.of(detail, document, around=place.around, resources=resources)
    return TrainingJobEvent(
        name=job.name,
        arn=job.arn,
        status=job.status,
        creation_time=job.creation_time,
        tags=job.tags,
        event_time=time_of(document.get("time")),
        replayed=document.get("replay-name") is not None,
        whole=place.direct and _is_whole(document, detail),
    )


def _tag_change(document: Mapping[str, Any]) -> TrainingJobEvent | OtherEvent:
    resources = _resources(document)
    if not resources:
        return OtherEvent(tag_change.DETAIL_TYPE)
    job = JobMembers.of({}, document, resources=resources)
    return TrainingJobEvent(
        name=job.name,
        arn=job.arn,
        event_time=time_of(document.get("time")),
        replayed=document.get("replay-name") is not None,
        changed_tags=tag_change.tag_keys(document.get("detail")),
    )


def _resources(envelope: Mapping[str, Any]) -> tuple[JobArn, ...]:
    resources = envelope.get("resources")
    found = arns_in({"resources": resources}) if isinstance(resources, list) else {}
    return tuple(arn for _, arn in found.values())


def _is_whole(envelope: Mapping[str, Any], detail: Mapping[str, Any]) -> bool:
    words = [envelope.get(member) for member in ("version", "id", "account", "time", "region")]
    return (
        all(isinstance(word, str) and word for word in words)
        and isinstance(envelope.get("resources"), list)
        and ("TrainingJobName" in detail or "TrainingJobArn" in detail)
    )


def _relayed(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent | OtherEvent:
    """An event about a message that another service did not deliver, or passed on."""
    what = f"{shown(document['detail-type'])} from {shown(document['source'])}"
    try:
        return _event(document.get("detail"), place.inside(f"detail of {what}", {}))
    except Malformed:
        if mention_of_job(document) is not None:
            raise
        return OtherEvent(what)


def _unwrapped(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent | OtherEvent:
    """The event of a document that is none itself: named by its members, or inside one of them.

    Raises:
        Malformed: it mentions several training jobs, or one in a form that is not known, or no
            known event at all.
    """
    inside = payloads(document)
    jobs, others, unread = _sorted_out(inside, place, place_of(document))
    if names_job(document):
        return _agreeing(_training_job(document, place), jobs)
    arns = arns_in(document)
    mention = next((fault for fault, mentions in unread if mentions), None)
    if mention is not None:
        raise mention
    if jobs and arns:
        return _agreeing(_only(jobs, place.what), [_training_job(document, place)])
    if jobs:
        return _only(jobs, place.what)
    if arns and not others:
        return _training_job(document, place)
    rest = {member: value for member, value in document.items() if member not in inside}
    if others and not unread and mention_of_job(rest) is None:
        return others[0]
    if unread and not others:
        raise unread[0][0]
    raise _not_an_event(document)


def _sorted_out(
    inside: Mapping[str, Any], place: _Place, around: Mapping[str, str]
) -> tuple[list[TrainingJobEvent], list[OtherEvent], list[tuple[Malformed, bool]]]:
    """The events inside, and why others could not be read, each with whether a training job is
    mentioned there.
    """
    jobs: list[TrainingJobEvent] = []
    others: list[OtherEvent] = []
    unread: list[tuple[Malformed, bool]] = []
    for member, value in inside.items():
        try:
            said = around if plain(member) == "detail" else {}
            found = _event(value, place.inside(shown(member), said))
        except Malformed as problem:
            unread.append((problem, mention_of_job(value) is not None))
        else:
            if isinstance(found, OtherEvent):
                others.append(found)
            else:
                jobs.append(found)
    return jobs, others, unread


def _not_an_event(document: Mapping[str, Any]) -> Malformed:
    members = ", ".join(shown(member) for member in list(document)[:5]) or "none at all"
    mention = mention_of_job(document)
    where = "" if mention is None else f"; a training job is mentioned in {mention}"
    return Malformed(
        "not an event: no detail-type, and neither TrainingJobName nor TrainingJobArn is given; "
        f"its members are {members}{where}"
    )


def _agreeing(event: TrainingJobEvent, same: Sequence[TrainingJobEvent]) -> TrainingJobEvent:
    """The event, which must be of the same job as those found beside it."""
    for other in same:
        if other.name.lower() != event.name.lower() or (
            event.arn and other.arn and event.arn.key != other.arn.key
        ):
            raise Malformed(
                f"{event.arn.text if event.arn else event.name} and "
                f"{other.arn.text if other.arn else other.name} are two jobs in one message"
            )
        event = replace(event, arn=event.arn or other.arn)
    return event


def _batch(items: Sequence[object], place: _Place) -> TrainingJobEvent | OtherEvent:
    """A list of records, with one training job at most: a message has one outcome."""
    if not items or len(items) > _MOST_RECORDS:
        raise Malformed(f"{place.what} is a list of {len(items)}, not of 1 to {_MOST_RECORDS}")
    numbered = {f"{place.what}[{number}]": item for number, item in enumerate(items)}
    jobs, others, unread = _sorted_out(numbered, place, {})
    job = _only(jobs, place.what) if jobs else None
    if unread:
        raise next((fault for fault, mentions in unread if mentions), unread[0][0])
    return job or others[0]


def _only(jobs: Sequence[TrainingJobEvent], what: str) -> TrainingJobEvent:
    """The one job that all events are of. What they disagree on is looked up in SageMaker."""
    first = jobs[0]
    names = {job.name.lower() for job in jobs}
    arns = {job.arn.key: job.arn for job in jobs if job.arn is not None}
    times = {job.creation_time for job in jobs if job.creation_time is not None}
    count = max(map(len, (names, arns, times)))
    if count > 1:
        some = ", ".join(sorted({job.name for job in jobs})[:3])
        raise Malformed(
            f"{what} holds events of {count} training jobs ({some}); a message must be about one: "
            "send each in a message of its own"
        )
    if all(job == first for job in jobs):
        return first
    arn, created = next(iter(arns.values()), None), next(iter(times), None)
    # a state change among them decides what is done
    changes = [job.changed_tags for job in jobs]
    changed = None if None in changes else frozenset[str]().union(*filter(None, changes))
    return TrainingJobEvent(first.name, arn, None, created, changed_tags=changed)


def _training_job(document: Mapping[str, Any], place: _Place) -> TrainingJobEvent:
    job = JobMembers.of(document, {}, around={**place.around, **place_of(document)})
    return TrainingJobEvent(job.name, job.arn, job.status, job.creation_time, job.tags)


def _loaded(text: str, what: str, unread: str = "not JSON") -> object:
    try:
        document: object = json.loads(text)
    except RecursionError:
        raise Malformed(f"{what} is nested too deeply: {_quoted(text)}") from None
    # an integer with more digits than Python reads is a plain ValueError
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
        raise Malformed(f"{what} is {unread} ({reason}): {_quoted(text)}") from None
    return document


def _quoted(text: str) -> str:
    """The beginning of an unparsed body, up to the first word that a secret may follow."""
    start = safe_beginning(text, SHOWN_CHARACTERS)
    return f"`{one_line(start)}`" + ("" if len(start) == len(text) else " …")
