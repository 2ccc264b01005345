"""A finding of `check`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"  # to know; nothing is wrong
    WARNING = "warning"  # works now, and will hurt some day
    FAILED = "failed"  # the daemon cannot do its work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`."""

    subject: str
    """What was looked at: ``configuration``, ``queue``, ``dead-letter queue``, ``clock``,
    ``SageMaker``, ``checkpoint``, ``target KIND`` or ``http``."""
    verdict: Verdict
    text: str = ""
    """What was found and, unless it is ok, what to do."""
    about: str = ""
    """The IAM action, the attribute or the key that it is about, for programs; may be empty."""
