"""The steps of the flow: one vocabulary for metrics, logs, breakers and code."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """What the flow is doing with a message, in order."""

    PARSE = "parse"
    CLAIM = "claim"
    DESCRIBE = "describe"
    VALIDATE = "validate"
    TAGS = "tags"
    """ListTags, where the event's tags do not suffice; part of `VALIDATE`."""
    SYNC = "sync"
    RECORD = "record"


MEASURED_STEPS = (Step.DESCRIBE, Step.VALIDATE, Step.SYNC, Step.RECORD)
"""The steps that are timed: values of the label ``step``, and log fields ``<step>_seconds``."""
