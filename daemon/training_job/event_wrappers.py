"""Documents that services between an EventBridge rule and the queue put around an event.

- SNS: ``Message`` of its notification; ``Records[].Sns`` for Lambda; ``default`` or ``sqs`` of a
  message with a structure per protocol
- SQS: ``body`` of a record, alone or in ``Records`` (Lambda, Pipes)
- Lambda: ``requestPayload`` of a destination
- Step Functions, InputTransformer: ``event``, ``detail``, ``input`` and the like
- EventBridge: events by which Lambda and Pipes pass on what they were given
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.training_job.event_members import names_job, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMBERS = frozenset(
    {
        "body",
        "content",
        "data",
        "default",
        "detail",
        "entries",
        "event",
        "eventbody",
        "eventdata",
        "eventdetail",
        "eventpayload",
        "events",
        "input",
        "job",
        "jobdetail",
        "jobs",
        "message",
        "messagebody",
        "messages",
        "msg",
        "originalbody",
        "originalevent",
        "originalmessage",
        "originalpayload",
        "output",
        "payload",
        "rawevent",
        "record",
        "records",
        "requestpayload",
        "result",
        "sagemakerevent",
        "sns",
        "sqs",
        "trainingjob",
        "trainingjobdetail",
        "trainingjobevent",
        "trainingjobs",
        "value",
    }
)
"""Without case and punctuation."""


def payloads(document: Mapping[str, Any]) -> dict[str, Any]:
    """The members that may hold an event: an object, a list or JSON in a string."""
    return {
        member: value
        for member, value in document.items()
        if plain(member) in _MEMBERS and _may_be_json(value)
    }


def is_item(item: object) -> bool:
    """Whether an item of a list is an object around an event, and not an event itself, or text."""
    if not isinstance(item, dict):
        return isinstance(item, str)
    return "detail-type" not in item and not names_job(item) and bool(payloads(item))


def is_relay(source: str, detail_type: str) -> bool:
    """Whether an EventBridge event is about a message that Lambda or Pipes was given."""
    return (source == "lambda" and detail_type.startswith("Lambda Function Invocation Result")) or (
        source.startswith("Pipe ") and detail_type.startswith("Event from ")
    )


def _may_be_json(value: object) -> bool:
    if isinstance(value, str):
        return value.lstrip()[:1] in ("{", "[", '"')
    return isinstance(value, dict | list) and bool(value)
