"""What becomes of message bodies that are made in tests."""

from __future__ import annotations

import json

from daemon.training_job.event import MalformedBody, TrainingJobEvent, parse_event


def parsed(document: object) -> TrainingJobEvent:
    """The event that a body holds."""
    event = parse_event(json.dumps(document))
    assert isinstance(event, TrainingJobEvent), event
    return event


def malformed(document: object) -> str:
    """Why a body holds no event."""
    event = parse_event(json.dumps(document))
    assert isinstance(event, MalformedBody), event
    return event.detail
